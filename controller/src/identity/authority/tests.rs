//! What is in force after files changed, for better or worse.

use super::*;
use crate::{
    identity::{
        files::PairText,
        testing::{Ca, Kind, now},
        token::Signer,
    },
    metrics::Page,
};
use std::{fs, os::unix::fs::symlink, path::Path};

fn identities() -> Identities {
    Identities::new("gossamer", "cluster.local").expect("names")
}

fn texts(issuer: &Ca, anchors: &str) -> Texts {
    let pair = PairText {
        chain: issuer.chain(),
        key: issuer.key(),
    };
    Texts {
        issuer: Ok(pair),
        anchors: Ok(anchors.to_owned()),
        token_key: None,
    }
}

/// What is in force, and what it was made of.
struct InForce(Authority, Texts);

impl InForce {
    fn nothing() -> Self {
        let tokens = Signer::generate().public_key_pem();
        let tokens = Verifier::from_pem(&tokens).expect("a key");
        let authority = Authority {
            anchors: None,
            issuer: None,
            tokens: Arc::new(tokens),
            problems: Problems::default(),
        };
        Self(authority, Texts::default())
    }

    fn take(&mut self, new: &Texts) {
        let (authority, texts) = judge(new, &self.1, &self.0, &identities(), now());
        *self = Self(authority, texts);
    }

    /// The issuer, the anchors, and whether there are problems with the one or the other.
    fn told(&self) -> String {
        let Authority {
            issuer,
            anchors,
            problems,
            ..
        } = &self.0;
        let name = |subject: &str| subject.replace("CN=", "");
        let issuer = issuer
            .as_ref()
            .map(|i| name(&i.certificate().summary.subject));
        let anchors = anchors.iter().flat_map(|anchors| anchors.certificates());
        let anchors: Vec<_> = anchors.map(|c| name(&c.summary.subject)).collect();
        let bad = match (&problems.issuer, &problems.anchors) {
            (None, None) => "",
            (Some(_), None) => ", bad issuer",
            (None, Some(_)) => ", bad anchors",
            (Some(_), Some(_)) => ", bad both",
        };
        format!(
            "{} of {}{bad}",
            issuer.unwrap_or_default(),
            anchors.join("+")
        )
    }
}

#[test]
fn a_rotation_of_everything() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let both = format!("{}{}", old.pem(), new.pem());
    let (a, b, c) = (old.sign("a"), old.sign("b"), new.sign("c"));
    let mut in_force = InForce::nothing();
    for (issuer, anchors, want) in [
        (&a, old.pem(), "a of old"),
        (&b, old.pem(), "b of old"),
        (&b, &both, "b of old+new"),
        (&c, &both, "c of old+new"),
        (&c, new.pem(), "c of new"),
        // All at once.
        (&a, old.pem(), "a of old"),
    ] {
        in_force.take(&texts(issuer, anchors));
        assert_eq!(in_force.told(), want);
    }
}

#[test]
fn what_was_good_stays() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let (a, b, c) = (old.sign("a"), old.sign("b"), new.sign("c"));
    let mut garbage = texts(&b, old.pem());
    garbage.issuer = Err("cannot read".to_owned());
    let mut half = texts(&b, old.pem());
    half.issuer = Ok(PairText {
        chain: b.chain(),
        key: a.key(),
    });
    let mut in_force = InForce::nothing();
    let good = texts(&a, old.pem());
    for (bad, want) in [
        (texts(&c, old.pem()), "a of old, bad issuer"),
        (garbage, "a of old, bad issuer"),
        (half, "a of old, bad issuer"),
        (texts(&a, "garbage"), "a of old, bad anchors"),
        (texts(&a, ""), "a of old, bad anchors"),
        // Nothing that the issuer signs would be trusted any more.
        (texts(&a, new.pem()), "a of old, bad anchors"),
        // What is good of the two is taken.
        (texts(&b, "garbage"), "b of old, bad anchors"),
        (texts(&b, new.pem()), "b of old, bad anchors"),
        (
            texts(&c, &format!("{}{}", old.pem(), Ca::root("x").pem())),
            "a of old+x, bad issuer",
        ),
        (
            texts(&Ca::root("y").sign("z"), new.pem()),
            "a of old, bad both",
        ),
        (texts(&c, "garbage"), "a of old, bad anchors"),
    ] {
        in_force.take(&good);
        assert_eq!(in_force.told(), "a of old");
        in_force.take(&bad);
        assert_eq!(in_force.told(), want);
        let lines = in_force.0.problems.lines().join("\n");
        assert!(!lines.is_empty() && !lines.contains("PRIVATE"), "{lines}");
    }
}

#[test]
fn without_anything_good_there_are_only_anchors() {
    let root = Ca::root("root");
    let mut in_force = InForce::nothing();
    in_force.take(&texts(&Ca::root("other").sign("a"), root.pem()));
    assert_eq!(in_force.told(), " of root, bad issuer");
    in_force.take(&texts(&root.sign("a"), "garbage"));
    assert_eq!(in_force.told(), " of , bad anchors");
    in_force.take(&texts(&root.sign("a"), root.pem()));
    assert_eq!(in_force.told(), "a of root");
}

#[test]
fn roots_before_and_after_their_time() {
    let hour = time::Duration::HOUR;
    let kind = Kind::default();
    let past = Ca::root_of(
        "past",
        Kind {
            until: now() - hour / 2,
            ..kind
        },
    );
    let future = Ca::root_of(
        "future",
        Kind {
            from: now() + hour,
            ..kind
        },
    );
    let root = Ca::root("root");
    let bundle = format!("{}{}{}", past.pem(), future.pem(), root.pem());
    let mut in_force = InForce::nothing();
    in_force.take(&texts(&root.sign("a"), &bundle));
    assert_eq!(in_force.told(), "a of past+future+root");
    for (root, why) in [(&past, "expired at"), (&future, "is not valid before")] {
        in_force.take(&texts(&root.sign("b"), root.pem()));
        assert_eq!(in_force.told(), "a of past+future+root, bad anchors");
        let problem = in_force.0.problems.anchors.clone().expect("a problem");
        assert!(problem.contains(why), "{problem}");
    }
    let leaf = root.sign_of("leaf", Kind { ca: false, ..kind });
    in_force.take(&texts(&root.sign("b"), leaf.pem()));
    let problem = in_force.0.problems.anchors.clone().expect("a problem");
    assert_eq!(problem, "\"CN=leaf\" is not a CA certificate");
}

#[tokio::test]
async fn a_bad_token_key_leaves_the_good_one() {
    let root = Ca::root("root");
    let (first, second) = (Signer::generate(), Signer::generate());
    let mut texts = texts(&root.sign("a"), root.pem());
    let mut in_force = InForce::nothing();
    let takes = async |in_force: &InForce, signer: &Signer| {
        let minute = Duration::from_secs(60);
        let token = signer.sign("demo", "web", minute).expect("a token");
        in_force.0.tokens.owner(&token).await.is_ok()
    };
    texts.token_key = Some(Ok(first.public_key_pem()));
    in_force.take(&texts);
    assert!(takes(&in_force, &first).await && !takes(&in_force, &second).await);
    texts.token_key = Some(Ok("garbage".to_owned()));
    in_force.take(&texts);
    assert!(takes(&in_force, &first).await);
    assert!(in_force.0.problems.token_key.is_some());
    texts.token_key = Some(Ok(second.public_key_pem()));
    in_force.take(&texts);
    assert!(!takes(&in_force, &first).await && takes(&in_force, &second).await);
    assert_eq!(in_force.0.problems, Problems::default());
}

// === files ===

/// As Kubernetes mounts a Secret or ConfigMap: all files change at once.
fn mount(dir: &Path, version: &str, files: &[(&str, &str)]) {
    let data = dir.join(format!("..{version}"));
    fs::create_dir_all(&data).expect("a directory");
    for (name, text) in files {
        fs::write(data.join(name), text).expect("a file");
        if fs::symlink_metadata(dir.join(name)).is_err() {
            symlink(format!("..data/{name}"), dir.join(name)).expect("a link");
        }
    }
    symlink(format!("..{version}"), dir.join("..new")).expect("a link");
    fs::rename(dir.join("..new"), dir.join("..data")).expect("swapped");
}

fn real() -> Kind {
    let now = OffsetDateTime::now_utc();
    Kind {
        from: now - time::Duration::HOUR,
        until: now + time::Duration::days(365),
        ..Kind::default()
    }
}

async fn next(authority: &mut watch::Receiver<Arc<Authority>>) -> InForce {
    authority.changed().await.expect("watched");
    let now = authority.borrow_and_update().clone();
    InForce((*now).clone(), Texts::default())
}

#[tokio::test(start_paused = true)]
async fn files_are_watched_through_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let (issuer, anchors) = (dir.path().join("issuer"), dir.path().join("anchors"));
    let root = Ca::root_of("root", real());
    let mount_issuer = |version: &str, ca: &Ca, key: &str| {
        let files = [("tls.crt", &*ca.chain()), ("tls.key", key)];
        mount(&issuer, version, &files);
    };
    let a = root.sign_of("a", real());
    mount_issuer("1", &a, &a.key());
    mount(&anchors, "1", &[("ca-bundle.crt", root.pem())]);
    let token_key = dir.path().join("token-key.pub.pem");
    fs::write(&token_key, Signer::generate().public_key_pem()).expect("a file");
    let paths = Paths {
        issuer: issuer.clone(),
        anchors: anchors.join("ca-bundle.crt"),
        token_key: Some(token_key.clone()),
    };
    let metrics = Arc::new(Metrics::default());
    let files = Files::open(paths, identities(), None, metrics.clone()).expect("files");
    let mut authority = files.authority();
    assert_eq!(
        InForce((**authority.borrow()).clone(), Texts::default()).told(),
        "a of root"
    );
    let watching = tokio::spawn(files.watch());

    let b = root.sign_of("b", real());
    let changed = Instant::now();
    mount_issuer("2", &b, &b.key());
    assert_eq!(next(&mut authority).await.told(), "b of root");
    assert!(
        changed.elapsed() < Duration::from_secs(2),
        "{:?}",
        changed.elapsed()
    );

    mount_issuer("3", &a, &b.key());
    assert_eq!(next(&mut authority).await.told(), "b of root, bad issuer");
    let new = Ca::root_of("new", real());
    mount(
        &anchors,
        "2",
        &[("ca-bundle.crt", &format!("{}{}", root.pem(), new.pem()))],
    );
    assert_eq!(
        next(&mut authority).await.told(),
        "b of root+new, bad issuer"
    );
    fs::remove_file(&token_key).expect("removed");
    let problems = next(&mut authority).await.0.problems.lines();
    assert!(
        problems[1].starts_with("token key: cannot read"),
        "{problems:?}"
    );

    let c = new.sign_of("c", real());
    fs::write(&token_key, Signer::generate().public_key_pem()).expect("a file");
    mount_issuer("4", &c, &c.key());
    assert_eq!(next(&mut authority).await.told(), "c of root+new");
    watching.abort();

    let mut page = Page::default();
    metrics.write_identity(&mut page);
    let page = page.text();
    for (name, count) in [("issuer", 1), ("trust_anchors", 0), ("token_key", 1)] {
        let line = format!("identity_{name}_reload_failures_total {count}");
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
}

#[test]
fn without_files_there_is_nothing_to_begin_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Ca::root_of("root", real());
    let a = root.sign_of("a", real());
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    put("crt.pem", &a.chain());
    put("key.pem", &a.key());
    let mut paths = Paths {
        issuer: dir.path().to_owned(),
        anchors: dir.path().join("anchors.pem"),
        token_key: None,
    };
    let open = |paths: &Paths| {
        let files = Files::open(paths.clone(), identities(), None, Arc::default());
        files
            .map(|files| files.has_problems())
            .map_err(|e| e.to_string())
    };
    assert!(
        open(&paths)
            .expect_err("no anchors")
            .starts_with("--identity-trust-anchors")
    );
    put("anchors.pem", "garbage");
    assert!(
        open(&paths)
            .expect_err("no tokens")
            .contains("expected --identity-token-key")
    );
    paths.token_key = Some(dir.path().join("anchors.pem"));
    assert!(
        open(&paths)
            .expect_err("no key")
            .starts_with("--identity-token-key: no public key")
    );
    put("token", &Signer::generate().public_key_pem());
    paths.token_key = Some(dir.path().join("token"));
    // A certificate that ran out does not take the rest of the control plane down.
    assert_eq!(open(&paths), Ok(true));
    put("anchors.pem", root.pem());
    assert_eq!(open(&paths), Ok(false));
}
