//! A real directory: what is read, kept, and told.

use super::*;

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

struct Dir {
    temp: tempfile::TempDir,
    directory: Directory,
}

impl Dir {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let directory = Directory::new(temp.path().to_owned(), Arc::default());
        Self { temp, directory }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.temp.path().join(name), text).expect("a file");
    }

    /// Files with the objects in force and whether they are bad.
    fn load(&mut self) -> Vec<(String, usize, bool)> {
        self.directory.load().expect("a listing");
        let load = self.directory.snapshot();
        let files = load.files.iter();
        files
            .map(|(n, f)| (n.to_string(), f.manifests.objects.len(), f.error.is_some()))
            .collect()
    }
}

fn entry(name: &str, objects: usize, bad: bool) -> (String, usize, bool) {
    (name.to_owned(), objects, bad)
}

#[test]
fn only_manifests_are_read() {
    let mut dir = Dir::new();
    for name in [
        "a.yaml",
        "b.yml",
        ".hidden.yaml",
        "c.yaml~",
        "README",
        "yaml",
    ] {
        dir.write(name, &service("s"));
    }
    dir.write(
        "d.json",
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"}}"#,
    );
    let want = ["a.yaml", "b.yml", "d.json"].map(|name| entry(name, 1, false));
    assert_eq!(dir.load(), want);
}

#[test]
fn a_file_that_turns_bad_keeps_what_it_held() {
    let mut dir = Dir::new();
    dir.write("a.yaml", &service("s"));
    assert_eq!(dir.load(), [entry("a.yaml", 1, false)]);
    let before = dir.directory.snapshot();
    assert_eq!(dir.load(), [entry("a.yaml", 1, false)]);
    assert!(before.same(&dir.directory.snapshot()));

    dir.write("a.yaml", "kind: [\n");
    assert_eq!(dir.load(), [entry("a.yaml", 1, true)]);
    assert!(!before.same(&dir.directory.snapshot()));
    let bad = dir.directory.snapshot();
    assert_eq!(dir.load(), [entry("a.yaml", 1, true)]);
    assert!(bad.same(&dir.directory.snapshot()));

    dir.write("a.yaml", &[service("s"), service("t")].join("---\n"));
    assert_eq!(dir.load(), [entry("a.yaml", 2, false)]);
    fs::remove_file(dir.temp.path().join("a.yaml")).expect("removed");
    assert_eq!(dir.load(), []);
}

#[test]
fn a_file_that_is_too_large_or_no_file_is_bad() {
    let mut dir = Dir::new();
    let comment = "#".repeat(usize::try_from(MAX_FILE_SIZE).expect("fits") + 1);
    dir.write("large.yaml", &comment);
    fs::create_dir(dir.temp.path().join("sub.yaml")).expect("a directory");
    std::os::unix::fs::symlink("nowhere", dir.temp.path().join("link.yaml")).expect("a link");
    let want = ["large.yaml", "link.yaml", "sub.yaml"].map(|name| entry(name, 0, true));
    assert_eq!(dir.load(), want);
}

#[test]
fn a_missing_directory_is_an_error_and_changes_nothing() {
    let mut dir = Dir::new();
    dir.write("a.yaml", &service("s"));
    dir.load();
    fs::remove_dir_all(dir.temp.path()).expect("removed");
    let error = dir.directory.load().expect_err("no directory");
    dir.directory.note(Err(error));
    let load = dir.directory.snapshot();
    assert_eq!(load.files.len(), 1);
    assert!(load.problem.is_some_and(|p| p.contains("cannot list")));
}
