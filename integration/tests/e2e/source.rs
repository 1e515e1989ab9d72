//! Manifests as tools write them: in place, by directories, with the same size and time. What is in
//! force stays until what follows is whole.

use crate::{
    controller::{server_of, service, slice, start},
    rig::{
        SOON,
        home::{Home, START, manifest},
    },
};
use integration::{controller::Controller, eventually, server::Server};
use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

/// Ample, where something has to be noticed without an event.
const LATER: Duration = Duration::from_secs(20);

async fn told(controller: &Controller, what: &str) {
    eventually::holds(what, LATER, || async {
        controller.admin("/ready?verbose").body.contains(what)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_written_in_place_takes_nothing_away_until_it_is_whole() {
    let (old, new) = (Server::start("old").await, Server::start("new").await);
    let (controller, proxy) = start(&[old.addr()]);
    assert_eq!(server_of(&proxy).await, "old");
    let path = controller.source().join("slice.yaml");
    // `cat` that begins late, as in `kubectl get -o yaml > FILE`.
    let mut file = fs::File::create(path).expect("it can be written");
    told(
        &controller,
        "slice.yaml: bad, 1 objects kept: is being written",
    )
    .await;
    assert_eq!(server_of(&proxy).await, "old");
    let text = slice(&[new.addr()]);
    let (half, rest) = text.split_at(text.find("- addresses").expect("endpoints"));
    file.write_all(half.as_bytes()).expect("written");
    // Long enough for many looks; a machine that is too slow for that proves nothing.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_eq!(server_of(&proxy).await, "old");
    }
    file.write_all(rest.as_bytes()).expect("written");
    drop(file);
    eventually::holds("the whole is in force", SOON, || async {
        server_of(&proxy).await == "new"
    })
    .await;
    told(&controller, "slice.yaml: ok").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_manifest_keeps_what_it_held() {
    let server = Server::start("app").await;
    let (controller, proxy) = start(&[server.addr()]);
    controller.write("slice.yaml", "");
    told(&controller, "slice.yaml: bad, 1 objects kept: is empty").await;
    assert_eq!(server_of(&proxy).await, "app");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_put_in_the_place_of_another_is_followed() {
    let (old, new) = (Server::start("old").await, Server::start("new").await);
    let (controller, proxy) = start(&[old.addr()]);
    assert_eq!(server_of(&proxy).await, "old");
    let source = controller.source();
    let aside = source.with_extension("old");
    fs::rename(source, &aside).expect("renamed");
    told(&controller, "source: cannot list").await;
    let listed = || controller.admin("/metrics").body;
    assert!(listed().contains("\nsource_listed 0\n"), "{}", listed());
    assert_eq!(server_of(&proxy).await, "old");
    fs::create_dir(source).expect("made");
    controller.write("service.yaml", &service(""));
    controller.write("slice.yaml", &slice(&[new.addr()]));
    eventually::holds("what is there now is in force", LATER, || async {
        server_of(&proxy).await == "new"
    })
    .await;
    assert!(listed().contains("\nsource_listed 1\n"), "{}", listed());
    let watched_again = listed().lines().any(|line| {
        let count = line.strip_prefix("source_rewatches_total ");
        count.is_some_and(|count| count != "0")
    });
    assert!(watched_again, "{}", listed());
    fs::remove_dir_all(aside).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_the_same_size_and_time_is_in_force() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    // Of the same length, as their addresses may not be.
    let text = |server: &Server| format!("{:<500}#\n", slice(&[server.addr()]));
    let (controller, proxy) = start(&[]);
    for (server, name) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let beside = controller.source().join(".new");
        fs::write(&beside, text(server)).expect("written");
        let file = fs::File::open(&beside).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
        fs::rename(&beside, controller.source().join("slice.yaml")).expect("renamed");
        eventually::holds("it is in force", LATER, || async {
            server_of(&proxy).await == name
        })
        .await;
    }
}

/// How many replicas there are, once all that should be are ready.
fn ready_pods(home: &Home) -> Option<usize> {
    let status = home.status();
    let ready = status["ready"] == true;
    status["pods"].as_array().filter(|_| ready).map(Vec::len)
}

async fn pods(home: &Home, want: usize) {
    eventually::holds("as many replicas as asked for", START, || async {
        ready_pods(home) == Some(want)
    })
    .await;
}

fn up(home: &Home, path: &Path) {
    let path = path.to_str().expect("a plain path");
    let up = home.run(&["local", "up", "-f", path, "--detach"]);
    let stderr = String::from_utf8_lossy(&up.stderr);
    assert!(up.status.success(), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_mesh_stops_nothing_while_a_manifest_is_written() {
    let home = Home::new();
    let files = tempfile::tempdir().expect("a directory");
    let path = files.path().join("app.yaml");
    fs::write(&path, manifest(1)).expect("written");
    up(&home, files.path());
    let text = manifest(2);
    let (half, rest) = text.split_once("---\n").expect("documents");
    let mut file = fs::File::create(&path).expect("it can be written");
    writeln!(file, "{half}---").expect("written");
    // Long enough for many looks; a machine that is too slow for that proves nothing.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        let status = home.status();
        assert_eq!(status["pods"].as_array().map(Vec::len), Some(2), "{status}");
        assert!(status["trouble"].is_null(), "{status}");
    }
    write!(file, "{rest}").expect("written");
    drop(file);
    pods(&home, 3).await;
    assert!(home.run(&["local", "down"]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_mesh_follows_a_directory_in_the_place_of_another_and_a_link() {
    let home = Home::new();
    let files = tempfile::tempdir().expect("a directory");
    let dir = files.path().join("d");
    let fill = |replicas| {
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("app.yaml"), manifest(replicas)).expect("written");
    };
    fill(1);
    up(&home, &dir);
    for (old, replicas) in [("old", 2), ("older", 3)] {
        fs::rename(&dir, files.path().join(old)).expect("renamed");
        fill(replicas);
        pods(&home, replicas as usize + 1).await;
    }
    assert!(home.run(&["local", "down"]).status.success());

    let link = files.path().join("link.yaml");
    std::os::unix::fs::symlink("d/app.yaml", &link).expect("a link");
    up(&home, &link);
    pods(&home, 4).await;
    fs::write(dir.join("app.yaml"), manifest(1)).expect("written");
    pods(&home, 2).await;
    assert!(home.run(&["local", "down"]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_manifest_says_in_vain_is_told_with_its_line() {
    let server = Server::start("app").await;
    let (controller, proxy) = start(&[server.addr()]);
    let typo = service("").replace("targetPort:", "targetProt:");
    let line = 1 + typo
        .lines()
        .take_while(|line| !line.contains("Prot"))
        .count();
    controller.write("service.yaml", &typo);
    let field = format!("line {line}: spec.ports[0].targetProt: is no field");
    told(&controller, &field).await;
    let deny = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: web}\n";
    controller.write("deny.yaml", deny);
    let vain = "Server default/web: line 2: not acted on yet";
    told(&controller, vain).await;
    for said in [field.as_str(), vain] {
        let log = controller.log();
        assert!(
            log.lines().any(|l| l.contains("WARN") && l.contains(said)),
            "{log}"
        );
    }
    controller.write("service.yaml", &service("").replace("kind: S", "kind: s"));
    told(
        &controller,
        "service.yaml: bad, 1 objects kept: line 2: kind: ",
    )
    .await;
    assert_eq!(server_of(&proxy).await, "app");
}
