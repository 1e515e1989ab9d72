//! The life of a certificate in virtual time, with an identity service that follows a script.

use super::*;
use crate::{
    config::{Anchors, Service},
    tls::testing::{DAY, peer, shake},
};
use parking_lot::Mutex;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

type Root = crate::tls::testing::Authority;

const NAME: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";

const HOUR: Duration = Duration::from_secs(3_600);

const SECOND: Duration = Duration::from_secs(1);

/// What the service does with one request.
enum Step {
    /// Signs, for so long from now.
    Issue(Arc<Root>, Duration),
    /// Signs for somebody else.
    IssueOther(Arc<Root>),
    /// Signs, from a day ahead.
    IssueAhead(Arc<Root>),
    /// Signs for a day, and hands out these anchors.
    Anchors(Arc<Root>, Vec<CertificateDer<'static>>),
    /// Refuses.
    Refuse,
    /// Says nothing.
    Hang,
}

/// The service: follows the script, then issues by the first root, for a day.
#[derive(Clone)]
struct Scripted {
    root: Arc<Root>,
    clock: Clock,
    script: Arc<Mutex<VecDeque<Step>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

struct Asked {
    at: Instant,
    token: Vec<u8>,
    csr: Vec<u8>,
}

/// The public key of a request.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority for Scripted {
    async fn certify(&self, ask: Ask) -> Result<Answer, String> {
        let (_, csr) = X509CertificationRequest::from_der(&ask.csr).unwrap();
        let public = &csr
            .certification_request_info
            .subject_pki
            .subject_public_key;
        let key = PublicKey(public.data.to_vec());
        self.asked.lock().push(Asked {
            at: Instant::now(),
            token: ask.token.clone(),
            csr: ask.csr.clone(),
        });
        let now = self.clock.now();
        let answer = |root: &Root, name: &str, from: SystemTime, life: Duration| Answer {
            chain: root.sign(name, (from, from + life), &key),
            anchors: Vec::new(),
        };
        let step = self.script.lock().pop_front();
        match step {
            None => Ok(answer(&self.root, &ask.identity, now, DAY)),
            Some(Step::Issue(root, life)) => Ok(answer(&root, &ask.identity, now, life)),
            Some(Step::IssueOther(root)) => Ok(answer(&root, "db.demo", now, DAY)),
            Some(Step::IssueAhead(root)) => Ok(answer(&root, &ask.identity, now + DAY, DAY)),
            Some(Step::Anchors(root, anchors)) => Ok(Answer {
                anchors,
                ..answer(&root, &ask.identity, now, DAY)
            }),
            Some(Step::Refuse) => Err("FailedPrecondition: not you".into()),
            Some(Step::Hang) => std::future::pending().await,
        }
    }
}

/// A running identity with its files.
struct Rig {
    identity: Identity,
    service: Scripted,
    registry: Arc<Registry>,
    clock: Clock,
    dir: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(root: &Arc<Root>, script: impl IntoIterator<Item = Step>) -> Self {
        Self::with(root, Anchors::Given(root.roots()), new_dir(), script)
    }

    /// Like [`Rig::start`], with anchors from a file.
    fn start_with_file(root: &Arc<Root>, script: impl IntoIterator<Item = Step>) -> Self {
        let dir = new_dir();
        let file = dir.join("anchors.pem");
        std::fs::write(&file, root.pem()).unwrap();
        Self::with(root, Anchors::File(file), dir, script)
    }

    fn with(
        root: &Arc<Root>,
        anchors: Anchors,
        dir: PathBuf,
        script: impl IntoIterator<Item = Step>,
    ) -> Self {
        std::fs::write(dir.join("token"), "first").unwrap();
        let started = Instant::now();
        let base = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let clock = Clock::new(move || base + started.elapsed());
        let config = config::Identity {
            name: NAME.into(),
            service: Service {
                target: crate::addr::Target::parse("127.0.0.1:8080").unwrap(),
                name: None,
            },
            anchors,
            token_file: dir.join("token"),
            dir: None,
            refresh: (10 * SECOND, DAY),
        };
        let registry = Registry::new(DAY, 1_000);
        let (identity, runner) = Identity::new(&config, clock.clone(), &registry);
        let service = Scripted {
            root: root.clone(),
            clock: clock.clone(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            asked: Arc::default(),
        };
        Self {
            task: tokio::spawn(runner.run(service.clone())),
            identity,
            service,
            registry,
            clock,
            dir,
        }
    }

    /// Pauses between requests so far.
    fn pauses(&self) -> Vec<Duration> {
        let asked = self.service.asked.lock();
        asked.windows(2).map(|w| w[1].at - w[0].at).collect()
    }

    fn attempts(&self) -> usize {
        self.service.asked.lock().len()
    }

    fn counted(&self, line: &str) -> bool {
        self.registry.render().contains(line)
    }

    /// For how long the certificate in force is valid.
    fn left(&self) -> Duration {
        let credentials = self.identity.credentials().unwrap();
        let left = credentials.not_after().duration_since(self.clock.now());
        left.unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn new_dir() -> PathBuf {
    static N: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "gossamer-identity-{}-{}",
        std::process::id(),
        N.fetch_add(1, Relaxed)
    );
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn root(name: &str) -> Arc<Root> {
    Arc::new(Root::new(name))
}

#[tokio::test(start_paused = true)]
async fn without_identity_everything_goes_on() {
    let off = Identity::disabled();
    off.certified().await;
    assert!(off.name().is_none() && off.credentials().is_none() && off.problem().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_certificate_makes_the_proxy_ready() {
    let root = root("root");
    let rig = Rig::start(&root, []);
    assert_eq!(rig.identity.name().map(|n| &**n), Some(NAME));
    assert_eq!(
        rig.identity.problem().as_deref(),
        Some("no trust anchors yet")
    );
    rig.identity.certified().await;
    assert_eq!(rig.identity.problem(), None);
    assert!(rig.identity.anonymous().is_some());
    assert!(rig.counted("control_identity_cert_refreshes_total{result=\"ok\"} 1"));
    let credentials = rig.identity.credentials().unwrap();
    let (connected, accepted) = shake(&credentials, &credentials, &peer(NAME)).await;
    assert!(connected.is_ok());
    assert_eq!(accepted.unwrap().client_id.as_deref(), Some(NAME));
}

#[tokio::test(start_paused = true)]
async fn renewal_is_in_time_with_a_fresh_key_and_the_token_of_the_day() {
    let rig = Rig::start(&root("root"), []);
    rig.identity.certified().await;
    let first = rig.identity.credentials().unwrap();
    std::fs::write(rig.dir.join("token"), "second").unwrap();
    sleep(DAY * 78 / 100).await;
    assert_eq!(rig.attempts(), 2);
    let pause = rig.pauses()[0];
    assert!(
        pause >= DAY * 62 / 100 && pause <= DAY * 78 / 100,
        "{pause:?}"
    );
    assert!(!Arc::ptr_eq(&first, &rig.identity.credentials().unwrap()));
    let asked = rig.service.asked.lock();
    assert_eq!(
        (&asked[0].token[..], &asked[1].token[..]),
        (&b"first"[..], &b"second"[..])
    );
    assert_ne!(asked[0].csr, asked[1].csr);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_costs_nothing_until_the_certificate_ends() {
    let root = root("root");
    let away = (0..400).map(|_| Step::Refuse);
    let script = [Step::Issue(root.clone(), 2 * HOUR)]
        .into_iter()
        .chain(away);
    let rig = Rig::start(&root, script);
    rig.identity.certified().await;
    let first = rig.identity.credentials().unwrap();
    sleep(2 * HOUR - 5 * SECOND).await;
    assert!(Arc::ptr_eq(&first, &rig.identity.credentials().unwrap()));
    assert_eq!(rig.identity.problem(), None);
    let pauses = rig.pauses();
    // After the renewal: from a second, doubling, never above a tenth of what is left.
    assert!(pauses[1] <= SECOND && pauses[2] <= 2 * SECOND, "{pauses:?}");
    assert!(
        pauses.iter().skip(1).all(|p| *p <= 300 * SECOND),
        "{pauses:?}"
    );
    assert!(pauses.len() < 100, "{pauses:?}");
    sleep(10 * SECOND).await;
    let problem = rig.identity.problem().unwrap();
    assert!(
        problem.starts_with("identity certificate expired at 2030-"),
        "{problem}"
    );
    // It is back.
    rig.service.script.lock().clear();
    sleep(10 * SECOND).await;
    assert_eq!(rig.identity.problem(), None);
    assert!(!Arc::ptr_eq(&first, &rig.identity.credentials().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let rig = Rig::start(&root("root"), [Step::Hang]);
    rig.identity.certified().await;
    let pause = rig.pauses()[0];
    assert!(pause >= 10 * SECOND && pause <= 12 * SECOND, "{pause:?}");
    assert!(rig.counted("control_identity_cert_refreshes_total{result=\"error\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_no_use_is_refused() {
    let (own, foreign) = (root("root"), root("root"));
    let script = [
        Step::IssueOther(own.clone()),
        Step::IssueAhead(own.clone()),
        Step::Issue(foreign, DAY),
        Step::Issue(own.clone(), Duration::ZERO),
    ];
    let rig = Rig::start(&own, script);
    // The last of them holds in the very second it was made for.
    rig.identity.certified().await;
    assert!(rig.counted("control_identity_cert_refreshes_total{result=\"error\"} 3"));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_asked() {
    let rig = Rig::start(&root("root"), []);
    std::fs::write(rig.dir.join("token"), "").unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(rig.attempts(), 0);
    std::fs::write(rig.dir.join("token"), "at last").unwrap();
    sleep(6 * SECOND).await;
    assert_eq!(rig.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn anchors_of_a_file_are_in_force_at_once() {
    let (old, new) = (root("old"), root("new"));
    let script = [Step::Issue(old.clone(), DAY), Step::Issue(new.clone(), DAY)];
    let rig = Rig::start_with_file(&old, script);
    rig.identity.certified().await;
    let first = rig.identity.credentials().unwrap();
    let put = |pem: String| std::fs::write(rig.dir.join("anchors.pem"), pem).unwrap();

    // Both are trusted: the certificate stays, in a configuration of its own.
    put(old.pem() + &new.pem());
    sleep(2 * SECOND).await;
    let both = rig.identity.credentials().unwrap();
    assert!(!Arc::ptr_eq(&first, &both));
    assert_eq!(rig.attempts(), 1);
    assert_eq!(first.not_after(), both.not_after());

    // The old one goes, and with it the certificate.
    put(new.pem());
    sleep(2 * SECOND).await;
    assert_eq!(rig.attempts(), 2);
    let last = rig.identity.credentials().unwrap();
    assert!(shake(&last, &last, &peer(NAME)).await.0.is_ok());
    let error = shake(&first, &last, &peer(NAME)).await.0.err().unwrap();
    assert_eq!(error.reason(), "unknown_issuer");
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_of_anchors_changes_nothing() {
    let rig = Rig::start_with_file(&root("root"), []);
    rig.identity.certified().await;
    let first = rig.identity.credentials().unwrap();
    std::fs::write(rig.dir.join("anchors.pem"), "no PEM").unwrap();
    sleep(5 * SECOND).await;
    assert!(Arc::ptr_eq(&first, &rig.identity.credentials().unwrap()));
    assert!(rig.counted("identity_trust_anchors_reload_failures_total 1"));
}

#[tokio::test(start_paused = true)]
async fn the_identity_service_replaces_anchors_that_were_given() {
    let (old, new) = (root("old"), root("new"));
    let anchors = vec![new.der()];
    let rig = Rig::start(&old, [Step::Anchors(new.clone(), anchors.clone())]);
    rig.identity.certified().await;
    let own = rig.identity.credentials().unwrap();
    assert!(shake(&own, &own, &peer(NAME)).await.0.is_ok());
    assert!(rig.left() > DAY - HOUR);

    let rig = Rig::start_with_file(&old, [Step::Anchors(new, anchors)]);
    rig.identity.certified().await;
    assert_eq!(rig.attempts(), 2, "those of a file are not replaced");
}

#[tokio::test(start_paused = true)]
async fn anchors_are_taken_only_with_a_certificate_that_chains_to_them() {
    let (own, other) = (root("own"), root("other"));
    let script = [
        Step::Issue(own.clone(), HOUR),
        Step::Anchors(own.clone(), vec![other.der()]),
        Step::Anchors(own.clone(), vec![b"nonsense".to_vec().into()]),
    ];
    let rig = Rig::start(&own, script);
    rig.identity.certified().await;
    sleep(HOUR * 80 / 100).await;
    assert_eq!(rig.attempts(), 4);
    assert!(rig.counted("control_identity_cert_refreshes_total{result=\"error\"} 2"));
    let own = rig.identity.credentials().unwrap();
    assert!(shake(&own, &own, &peer(NAME)).await.0.is_ok());
}
