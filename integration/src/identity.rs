//! An identity service whose every answer the test holds.
//!
//! It signs what proxies ask for, in clear on a loopback address, from a thread with a runtime of
//! its own, so that a test can take it away and bring it back on the same port. What it hands out
//! can be short-lived, late, early, somebody else's, or nothing.

use crate::{
    addr,
    pki::{Authority, Validity},
};
use linkerd2_proxy_api::identity::{
    CertifyRequest, CertifyResponse,
    identity_server::{Identity, IdentityServer},
};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, async_trait, metadata::MetadataValue};

/// The service. Dropping it cuts all connections.
pub struct IdentityService {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Answers {
    /// With a certificate.
    Certificate(Issue),
    /// With a certificate, after this time.
    After(Duration, Issue),
    /// Never.
    Never,
    /// With this status.
    Refuse(Code, String),
}

/// What certificates are like.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Their dates, counted from the request.
    pub dates: Dates,
    /// For whom, if not for who asks.
    pub name: Option<String>,
    /// By whom, if not by the service's own authority.
    pub by: Option<Arc<Authority>>,
}

/// Dates of a certificate, as seen from the moment it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// Valid for this long.
    Lasting(Duration),
    /// Over.
    Over,
    /// Not begun.
    ToCome,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name that was asked for.
    pub identity: String,
    /// The token, as text.
    pub token: String,
    /// The public key of the request (SubjectPublicKeyInfo, DER).
    pub key: Vec<u8>,
    /// Whether a certificate was the answer.
    pub is_answered: bool,
}

struct State {
    authority: Arc<Authority>,
    answers: Answers,
    by_name: HashMap<String, Answers>,
    /// Sent along with every certificate.
    anchors: Vec<CertificateDer<'static>>,
    calls: Vec<Call>,
}

// === impl IdentityService ===

impl IdentityService {
    /// One that signs by `authority`, for a day.
    pub fn start(authority: Authority) -> Self {
        let mut service = Self::absent(authority);
        service.listen();
        service
    }

    /// One that does not listen yet.
    pub fn absent(authority: Authority) -> Self {
        let state = State {
            authority: Arc::new(authority),
            answers: Answers::default(),
            by_name: HashMap::new(),
            anchors: Vec::new(),
            calls: Vec::new(),
        };
        Self {
            addr: addr::unique(8080),
            state: Arc::new(Mutex::new(state)),
            runtime: None,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to listen, on the same port as ever.
    pub fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake-identity")
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let listener = {
            let _inside = runtime.enter();
            let socket = std::net::TcpListener::bind(self.addr)
                .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", self.addr));
            socket
                .set_nonblocking(true)
                .expect("sockets can be non-blocking");
            TcpListener::from_std(socket).expect("a runtime is there")
        };
        runtime.spawn(serve(listener, self.state.clone()));
        self.runtime = Some(runtime);
    }

    /// Stops listening and cuts every connection.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Signs by `authority` from now on.
    pub fn authority(&self, authority: Authority) {
        self.state.lock().authority = Arc::new(authority);
    }

    /// Answers everybody like this from now on.
    pub fn answers(&self, answers: Answers) {
        self.state.lock().answers = answers;
    }

    /// Answers those who ask for `identity` like this from now on.
    pub fn answers_for(&self, identity: &str, answers: Answers) {
        self.state
            .lock()
            .by_name
            .insert(identity.to_owned(), answers);
    }

    /// Sends the roots of `authorities` along from now on.
    pub fn anchors(&self, authorities: &[&Authority]) {
        self.state.lock().anchors = authorities.iter().map(|a| a.anchor()).collect();
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// How many certificates were handed out for `identity`.
    pub fn certified(&self, identity: &str) -> usize {
        let state = self.state.lock();
        let of_name = |call: &&Call| call.identity == identity && call.is_answered;
        state.calls.iter().filter(of_name).count()
    }
}

impl Drop for IdentityService {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Answers ===

impl Default for Answers {
    fn default() -> Self {
        Self::lasting(Duration::from_secs(24 * 3600))
    }
}

impl Answers {
    /// Certificates that are valid for `time`.
    pub fn lasting(time: Duration) -> Self {
        Self::dated(Dates::Lasting(time))
    }

    /// Certificates with these dates.
    pub fn dated(dates: Dates) -> Self {
        Self::Certificate(Issue {
            dates,
            name: None,
            by: None,
        })
    }

    /// Certificates for somebody else.
    pub fn named(name: &str) -> Self {
        let mut issue = Issue::day();
        issue.name = Some(name.to_owned());
        Self::Certificate(issue)
    }

    /// Certificates by somebody else.
    pub fn by(authority: Authority) -> Self {
        let mut issue = Issue::day();
        issue.by = Some(Arc::new(authority));
        Self::Certificate(issue)
    }

    /// No certificate, but this status.
    pub fn refuse(code: Code, message: &str) -> Self {
        Self::Refuse(code, message.to_owned())
    }
}

// === impl Issue ===

impl Issue {
    fn day() -> Self {
        Self {
            dates: Dates::Lasting(Duration::from_secs(24 * 3600)),
            name: None,
            by: None,
        }
    }
}

// === impl Dates ===

impl Dates {
    fn validity(self) -> Validity {
        match self {
            Self::Lasting(time) => Validity::lasting(time),
            Self::Over => Validity::over(),
            Self::ToCome => Validity::to_come(),
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let _ = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(Service { state }))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await;
}

struct Service {
    state: Arc<Mutex<State>>,
}

#[async_trait]
impl Identity for Service {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        let (answers, at) = self.note(&request);
        let issue = match answers {
            Answers::Certificate(issue) => issue,
            Answers::After(time, issue) => {
                tokio::time::sleep(time).await;
                issue
            }
            Answers::Never => std::future::pending().await,
            Answers::Refuse(code, message) => return Err(Status::new(code, message)),
        };
        let mut state = self.state.lock();
        state.calls[at].is_answered = true;
        Ok(respond(&state, &request, &issue))
    }
}

impl Service {
    /// Remembers a call; how to answer it, and its place among the calls.
    fn note(&self, request: &CertifyRequest) -> (Answers, usize) {
        let mut state = self.state.lock();
        let token = String::from_utf8_lossy(&request.token).into_owned();
        state.calls.push(Call {
            identity: request.identity.clone(),
            token,
            key: crate::pki::key_of_request(&request.certificate_signing_request),
            is_answered: false,
        });
        let by_name = state.by_name.get(&request.identity);
        let answers = by_name.unwrap_or(&state.answers).clone();
        (answers, state.calls.len() - 1)
    }
}

fn respond(state: &State, request: &CertifyRequest, issue: &Issue) -> Response<CertifyResponse> {
    let authority = issue.by.as_ref().unwrap_or(&state.authority);
    let name = issue.name.as_ref().unwrap_or(&request.identity);
    let validity = issue.dates.validity();
    let csr = &request.certificate_signing_request;
    let leaf = authority.sign_request(csr, &[name], validity);
    let intermediates = authority.intermediates();
    let mut response = Response::new(CertifyResponse {
        leaf_certificate: leaf.to_vec(),
        intermediate_certificates: intermediates.iter().map(|c| c.to_vec()).collect(),
        valid_until: Some(prost_types::Timestamp {
            seconds: validity.until.unix_timestamp(),
            nanos: 0,
        }),
    });
    for anchor in &state.anchors {
        let value = MetadataValue::from_bytes(anchor);
        response
            .metadata_mut()
            .append_bin("gossamer-trust-anchors-bin", value);
    }
    response
}
