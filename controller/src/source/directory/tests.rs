//! A real directory: what is read, kept, and told.

use super::*;

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

struct Dir {
    temp: tempfile::TempDir,
    directory: Directory,
    now: Instant,
}

impl Dir {
    /// No events tell of it: whatever changes has to settle.
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let watch = Watch::new(Vec::new(), DEBOUNCE);
        Self {
            directory: Directory::watched(temp.path().to_owned(), watch, Arc::default()),
            temp,
            now: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    /// Files with the objects in force and whether they are bad, once all has settled.
    fn load(&mut self) -> Vec<(String, usize, bool)> {
        self.look();
        self.now += SETTLE;
        self.look()
    }

    /// The same at a first look.
    fn look(&mut self) -> Vec<(String, usize, bool)> {
        self.directory.load(self.now).expect("a listing");
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
    fs::remove_file(dir.path("a.yaml")).expect("removed");
    assert_eq!(dir.load(), []);
}

#[test]
fn a_file_that_is_too_large_or_no_file_is_bad() {
    let mut dir = Dir::new();
    let comment = "#".repeat(usize::try_from(MAX_FILE_SIZE).expect("fits") + 1);
    dir.write("large.yaml", &comment);
    fs::create_dir(dir.path("sub.yaml")).expect("a directory");
    std::os::unix::fs::symlink("nowhere", dir.path("link.yaml")).expect("a link");
    let want = ["large.yaml", "link.yaml", "sub.yaml"].map(|name| entry(name, 0, true));
    assert_eq!(dir.load(), want);
}

#[test]
fn a_missing_directory_is_an_error_and_changes_nothing() {
    let mut dir = Dir::new();
    dir.write("a.yaml", &service("s"));
    dir.load();
    fs::remove_dir_all(dir.temp.path()).expect("removed");
    let error = dir.directory.load(dir.now).expect_err("no directory");
    dir.directory.note(Err(error));
    let load = dir.directory.snapshot();
    assert_eq!(load.files.len(), 1);
    assert!(load.problem.is_some_and(|p| p.contains("cannot list")));
}

#[test]
fn a_file_that_is_half_written_keeps_what_it_held() {
    let mut dir = Dir::new();
    let (all, half) = ([service("s"), service("t")].join("---\n"), service("s"));
    dir.write("a.yaml", &all);
    assert_eq!(dir.load(), [entry("a.yaml", 2, false)]);
    dir.write("a.yaml", &half);
    assert_eq!(dir.look(), [entry("a.yaml", 2, false)]);
    dir.now += SETTLE;
    dir.write("a.yaml", &format!("{half}---\n"));
    assert_eq!(dir.look(), [entry("a.yaml", 2, false)]);
    dir.now += SEEN_FOR_LONG;
    dir.write("a.yaml", &all);
    assert_eq!(
        dir.look(),
        [entry("a.yaml", 2, true)],
        "in time it is reported"
    );
    assert_eq!(dir.load(), [entry("a.yaml", 2, false)]);
}

const SEEN_FOR_LONG: Duration = Duration::from_secs(1);

#[test]
fn an_empty_file_takes_nothing_away() {
    let mut dir = Dir::new();
    dir.write("a.yaml", &service("s"));
    dir.write("b.yaml", "");
    let want = [entry("a.yaml", 1, false), entry("b.yaml", 0, false)];
    assert_eq!(dir.load(), want);
    dir.write("a.yaml", "");
    let want = [entry("a.yaml", 1, true), entry("b.yaml", 0, false)];
    assert_eq!(dir.load(), want);
    dir.write("a.yaml", "# nothing\n");
    assert_eq!(dir.load()[0], entry("a.yaml", 0, false));
}

#[test]
fn a_file_of_the_same_size_and_time_is_read() {
    let mut dir = Dir::new();
    for name in ["one", "two"] {
        dir.write("new", &service(name));
        let file = fs::File::open(dir.path("new")).expect("a file");
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        file.set_modified(epoch).expect("set");
        fs::rename(dir.path("new"), dir.path("a.yaml")).expect("renamed");
        dir.load();
        let file = &dir.directory.snapshot().files["a.yaml"];
        assert_eq!(&*file.manifests.objects[0].id().key.name, name);
    }
}

#[test]
fn a_bad_file_that_is_renamed_keeps_what_it_held() {
    let mut dir = Dir::new();
    dir.write("a.yaml", &service("s"));
    dir.load();
    dir.write("a.yaml", "kind: [\n");
    assert_eq!(dir.load(), [entry("a.yaml", 1, true)]);
    fs::rename(dir.path("a.yaml"), dir.path("z.yaml")).expect("renamed");
    assert_eq!(dir.load(), [entry("z.yaml", 1, true)]);
}

#[test]
fn a_directory_in_the_place_of_another_counts_once_it_has_settled() {
    let mut dir = Dir::new();
    let path = dir.path("d");
    let old = dir.path("old");
    let fill = |names: &[&str]| {
        fs::create_dir_all(&path).expect("made");
        for name in names {
            fs::write(path.join(name), service("s")).expect("a file");
        }
    };
    fill(&["a.yaml", "b.yaml"]);
    dir.directory.path.clone_from(&path);
    assert_eq!(dir.look().len(), 2);
    fs::rename(&path, old).expect("renamed");
    fill(&["a.yaml"]);
    assert_eq!(dir.look().len(), 2, "it is being filled");
    dir.now += SETTLE;
    fill(&["c.yaml"]);
    assert_eq!(dir.look().len(), 2, "it still is");
    dir.now += SETTLE;
    let names: Vec<_> = dir.look().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["a.yaml", "c.yaml"]);

    fs::rename(&path, dir.path("older")).expect("renamed");
    fill(&["d.yaml", "e.yaml", "f.yaml"]);
    assert_eq!(dir.look().len(), 2, "it is being filled again");
    dir.now += FILLED;
    fill(&["g.yaml"]);
    assert_eq!(dir.look().len(), 4, "and not for ever");
}

#[test]
fn a_name_that_is_no_text_is_listed() {
    use std::os::unix::ffi::OsStrExt;
    let mut dir = Dir::new();
    let name = OsStr::from_bytes(b"caf\xe9.yaml");
    fs::write(dir.temp.path().join(name), service("s")).expect("a file");
    assert_eq!(dir.load(), [entry("caf\\xE9.yaml", 1, false)]);
}

#[test]
fn a_swap_of_links_is_followed_as_in_a_config_map() {
    use std::os::unix::fs::symlink;
    let mut dir = Dir::new();
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(dir.path(version)).expect("made");
        dir.write(&format!("{version}/a.yaml"), &service(name));
    }
    symlink("..1", dir.path("..data")).expect("a link");
    symlink("..data/a.yaml", dir.path("a.yaml")).expect("a link");
    dir.load();
    symlink("..2", dir.path("..new")).expect("a link");
    fs::rename(dir.path("..new"), dir.path("..data")).expect("swapped");
    assert_eq!(dir.load(), [entry("a.yaml", 1, false)]);
    let file = &dir.directory.snapshot().files["a.yaml"];
    assert_eq!(&*file.manifests.objects[0].id().key.name, "two");
}
