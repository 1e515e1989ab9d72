//! Calls, with somebody who knows tokens and a clock that stands still.

use super::*;
use crate::{
    identity::{
        anchors::Anchors,
        authority::Problems,
        issuer::Issuer,
        testing::{self, Ca, Kind, WEB, now},
        token::Tokens,
    },
    metrics::Page,
};
use futures::{FutureExt, future::BoxFuture};
use prost::Message;

/// Answers by what the token says.
struct Fake;

impl Tokens for Fake {
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ServiceAccount, TokenError>> {
        let owner = |username: &str| ServiceAccount::of_username(username);
        let answer = match token {
            "silence" => return std::future::pending().boxed(),
            "down" => Err(TokenError::Unavailable("etcd is gone".to_owned())),
            "expired" => Err(TokenError::Expired(60)),
            "garbage" => Err(TokenError::Malformed("it is not a JWT".to_owned())),
            user => owner(user).ok_or_else(|| TokenError::NotAServiceAccount(user.to_owned())),
        };
        std::future::ready(answer).boxed()
    }
}

struct Service {
    certify: Certify,
    authority: watch::Sender<Arc<Authority>>,
    root: Ca,
    metrics: Arc<Metrics>,
}

fn identities() -> Identities {
    Identities::new("gossamer", "cluster.local").expect("names")
}

fn authority(root: &Ca, issuer: &Ca) -> Authority {
    let anchors = Anchors::read(root.pem(), now()).expect("anchors");
    let issuer = Issuer::read(
        &issuer.chain(),
        &issuer.key(),
        &anchors,
        &identities(),
        now(),
    );
    Authority {
        issuer: Some(Arc::new(issuer.expect("an issuer"))),
        anchors: Some(Arc::new(anchors)),
        tokens: Arc::new(Fake),
        problems: Problems::default(),
    }
}

impl Service {
    fn new(kind: Kind) -> Self {
        let root = Ca::root("root");
        let issuer = root.sign_of("identity", kind);
        let (authority, follow) = watch::channel(Arc::new(authority(&root, &issuer)));
        let metrics = Arc::new(Metrics::default());
        let terms = Terms {
            lifetime: Duration::from_secs(3600),
            skew: Duration::from_secs(20),
        };
        let mut certify = Certify::new(follow, identities(), terms, metrics.clone());
        Arc::get_mut(&mut certify.0).expect("not shared").clock = now;
        Self {
            certify,
            authority,
            root,
            metrics,
        }
    }

    async fn ask(&self, request: CertifyRequest) -> Result<Reply, Status> {
        self.certify.certify(request.encode_to_vec().into()).await
    }

    async fn refused(&self, request: CertifyRequest) -> (Code, String) {
        let status = self.ask(request).await.err().expect("refused");
        (status.code(), status.message().to_owned())
    }

    fn count(&self, result: &str) -> u64 {
        let mut page = Page::default();
        self.metrics.write_identity(&mut page);
        let start = format!("identity_certify_total{{result=\"{result}\"}} ");
        let page = page.text();
        let mut counts = page.lines().filter_map(|line| line.strip_prefix(&*start));
        counts
            .next()
            .map_or(0, |count| count.parse().expect("a number"))
    }
}

fn request() -> CertifyRequest {
    CertifyRequest {
        identity: WEB.to_owned(),
        token: b"system:serviceaccount:demo:web".to_vec(),
        certificate_signing_request: testing::csr(WEB),
    }
}

#[tokio::test]
async fn a_proper_request_is_certified() {
    let service = Service::new(Kind::default());
    let reply = service.ask(request()).await.expect("a certificate");
    let anchors = reply.metadata.get_all_bin("gossamer-trust-anchors-bin");
    let anchors: Vec<_> = anchors
        .iter()
        .map(|anchor| anchor.to_bytes().expect("base64"))
        .collect();
    let authority = service.authority.borrow().clone();
    let root = &authority.anchors.as_ref().expect("anchors").certificates()[0];
    assert_eq!(anchors, [Bytes::from(root.der.to_vec())]);
    assert_eq!(service.count("ok"), 1);
}

#[tokio::test]
async fn a_new_issuer_is_used_from_the_next_request_on() {
    let service = Service::new(Kind::default());
    let shared = &service.certify.0;
    let first = shared.certify(&request()).await.expect("a certificate");
    let other = service.root.sign("other");
    service
        .authority
        .send_replace(Arc::new(authority(&service.root, &other)));
    let second = shared.certify(&request()).await.expect("a certificate");
    assert_ne!(first.chain, second.chain);
}

#[tokio::test(start_paused = true)]
async fn refusals_say_why() {
    let service = Service::new(Kind::default());
    let api = WEB.replace("web", "api");
    let with = |change: fn(&mut CertifyRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    let wrong_name = CertifyRequest {
        certificate_signing_request: testing::csr(&api),
        ..request()
    };
    let somebody_else = CertifyRequest {
        identity: api.clone(),
        certificate_signing_request: testing::csr(&api),
        ..request()
    };
    let token = |token: &[u8]| CertifyRequest {
        token: token.to_vec(),
        ..request()
    };
    use Code::{DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument};
    let table = [
        (
            with(|r| r.identity.clear()),
            InvalidArgument,
            "malformed",
            "identity: expected",
        ),
        (
            with(|r| r.identity = "x".repeat(254)),
            InvalidArgument,
            "malformed",
            "identity: expected",
        ),
        (token(b""), InvalidArgument, "malformed", "token: missing"),
        (
            token(b"\xff"),
            InvalidArgument,
            "malformed",
            "token: it is not text",
        ),
        (
            token(b"garbage"),
            InvalidArgument,
            "token_malformed",
            "it is not a JWT",
        ),
        (
            token(b"expired"),
            FailedPrecondition,
            "token_expired",
            "expired 60 s ago",
        ),
        (
            token(b"admin"),
            FailedPrecondition,
            "token_owner",
            "the token is of \"admin\"",
        ),
        (
            token(b"down"),
            Internal,
            "token_unavailable",
            "etcd is gone",
        ),
        (
            token(b"silence"),
            DeadlineExceeded,
            "token_deadline",
            "no answer in 5s",
        ),
        (
            with(|r| r.certificate_signing_request.clear()),
            InvalidArgument,
            "csr_malformed",
            "the CSR is malformed",
        ),
        (
            wrong_name,
            FailedPrecondition,
            "csr_name",
            "the CSR is for DNS:api.demo",
        ),
        (
            somebody_else,
            FailedPrecondition,
            "identity_mismatch",
            "the token is of demo/web, whose identity is \"web.demo.",
        ),
    ];
    for (request, code, reason, why) in table {
        let before = service.count(reason);
        let (told, said) = service.refused(request).await;
        assert_eq!(told, code, "{said}");
        assert!(said.contains(why), "{said}: {why}");
        assert_eq!(service.count(reason), before + 1, "{reason}");
    }
    let garbage = service.certify.certify(Bytes::from_static(b"\xff")).await;
    assert_eq!(
        garbage.err().map(|status| status.code()),
        Some(InvalidArgument)
    );
    assert_eq!(service.count("ok"), 0);
}

#[tokio::test]
async fn without_an_issuer_there_is_nothing_to_sign_with() {
    let hour = now() + time::Duration::HOUR;
    let mut service = Service::new(Kind {
        until: hour,
        ..Kind::default()
    });
    assert!(service.ask(request()).await.is_ok());
    let shared = Arc::get_mut(&mut service.certify.0).expect("not shared");
    shared.clock = || now() + time::Duration::HOUR;
    let (code, said) = service.refused(request()).await;
    assert_eq!(
        (code, service.count("issuer_expired")),
        (Code::Unavailable, 1)
    );
    assert!(said.contains("expired at 2027-01-15T09:00:00Z"), "{said}");

    service.authority.send_modify(|authority| {
        let authority = Arc::make_mut(authority);
        authority.issuer = None;
        authority.problems.issuer = Some("\"CN=identity\" is not a CA".to_owned());
    });
    let (code, said) = service.refused(request()).await;
    assert_eq!((code, service.count("no_issuer")), (Code::Unavailable, 1));
    assert!(
        said.contains("there is no issuer: issuer: \"CN=identity\" is not"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_at_once() {
    let service = Service::new(Kind::default());
    let silent = CertifyRequest {
        token: b"silence".to_vec(),
        ..request()
    };
    let mut waiting: Vec<_> = (0..MAX_CALLS)
        .map(|_| Box::pin(service.ask(silent.clone())))
        .collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    let (code, said) = service.refused(request()).await;
    assert_eq!(code, Code::ResourceExhausted, "{said}");
    // Whoever gives up makes room.
    waiting.pop();
    assert!(service.ask(request()).await.is_ok());
}
