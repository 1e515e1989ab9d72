//! Certificates from the whole controller in this process, over a real socket.

use clap::Parser;
use linkerd2_proxy_api::identity::{
    CertifyRequest, CertifyResponse, identity_client::IdentityClient,
};
use mesh_controller::{app::App, args::Args, identity::token::Signer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use std::{fs, net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Response, Status, transport::Channel};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

const SOON: Duration = Duration::from_secs(10);
const WEB: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";
const METADATA: &str = "gossamer-trust-anchors-bin";

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new(name: &str, parent: Option<&Self>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = match parent {
            Some(parent) => params.signed_by(&key, &parent.issuer),
            None => params.self_signed(&key),
        };
        Self {
            pem: certificate.expect("a certificate").pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn write(&self, dir: &Path) {
        replace(
            &dir.join("issuer/key.pem"),
            &self.issuer.key().serialize_pem(),
        );
        replace(&dir.join("issuer/crt.pem"), &self.pem);
    }
}

/// As editors and tools do it: the file is never half there.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("renamed");
}

struct Mesh {
    dir: TempDir,
    app: App,
    signer: Signer,
}

impl Mesh {
    async fn start(root: &Ca, issuer: &Ca) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| {
            dir.path()
                .join(name)
                .to_str()
                .expect("a plain path")
                .to_owned()
        };
        fs::create_dir(path("issuer")).expect("a directory");
        fs::create_dir(path("source")).expect("a directory");
        issuer.write(dir.path());
        replace(&dir.path().join("anchors.pem"), &root.pem);
        let signer = Signer::generate();
        fs::write(path("token.pem"), signer.public_key_pem()).expect("a file");
        let any = "127.0.0.1:0";
        let flags = [
            ("--source", &*path("source")),
            ("--identity-issuer", &path("issuer")),
            ("--identity-trust-anchors", &path("anchors.pem")),
            ("--identity-token-key", &path("token.pem")),
            ("--identity-addr", any),
            ("--admin-addr", any),
            ("--disable", "destination,policy,stats"),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]);
        let args = ["mesh-controller".to_owned()].into_iter().chain(flags);
        let args = Args::try_parse_from(args).expect("arguments");
        let app = App::start(args).await.expect("a controller");
        Self { dir, app, signer }
    }

    async fn certify(
        &self,
        identity: &str,
        token: &str,
    ) -> Result<Response<CertifyResponse>, Status> {
        let addr = self.app.addrs().identity.expect("enabled");
        let endpoint = Channel::from_shared(format!("http://{addr}")).expect("an address");
        let channel = endpoint.connect().await.expect("connected");
        let mut params = CertificateParams::new([identity.to_owned()]).expect("a name");
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().expect("a key");
        let csr = params.serialize_request(&key).expect("a request");
        let request = CertifyRequest {
            identity: identity.to_owned(),
            token: token.as_bytes().to_vec(),
            certificate_signing_request: csr.der().to_vec(),
        };
        let call = async move { IdentityClient::new(channel).certify(request).await };
        timeout(SOON, call).await.expect("in time")
    }

    fn token(&self) -> String {
        let minute = Duration::from_secs(60);
        self.signer.sign("demo", "web", minute).expect("a token")
    }

    async fn page(&self, path: &str) -> (u16, String) {
        page(self.app.addrs().admin.expect("enabled"), path).await
    }

    /// Asks for the overview until it says so.
    async fn overview(&self, says: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let asked = async {
            loop {
                let (status, text) = self.page("/identity.json").await;
                assert_eq!(status, 200);
                let overview = serde_json::from_str(&text).expect("JSON");
                if says(&overview) {
                    return overview;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, asked).await.expect("in time")
    }
}

async fn page(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(addr).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("written");
    let mut response = String::new();
    let reading = socket.read_to_string(&mut response);
    timeout(SOON, reading)
        .await
        .expect("in time")
        .expect("read");
    let status = response.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body);
    (status.expect("a status"), body.expect("a body").to_owned())
}

/// As a proxy does it, with these roots only.
fn verify(response: &CertifyResponse, root: &Ca) -> Result<(), webpki::Error> {
    let root = CertificateDer::from_pem_slice(root.pem.as_bytes()).expect("a certificate");
    let anchors = [anchor_from_trusted_cert(&root)?];
    let leaf = CertificateDer::from(&*response.leaf_certificate);
    let chain = response
        .intermediate_certificates
        .iter()
        .map(|der| CertificateDer::from(&**der));
    let chain: Vec<_> = chain.collect();
    let leaf = EndEntityCert::try_from(&leaf)?;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let (algorithms, now) = (ALL_VERIFICATION_ALGS, UnixTime::now());
        leaf.verify_for_usage(algorithms, &anchors, &chain, now, usage, None, None)?;
    }
    let name = ServerName::try_from(WEB).expect("a name");
    leaf.verify_is_valid_for_subject_name(&name)
}

#[tokio::test]
async fn a_workload_gets_a_certificate() {
    let root = Ca::new("root", None);
    let mesh = Mesh::start(&root, &Ca::new("identity", Some(&root))).await;
    let response = mesh
        .certify(WEB, &mesh.token())
        .await
        .expect("a certificate");
    let sent = response.metadata().get_all_bin(METADATA);
    let sent: Vec<_> = sent
        .iter()
        .map(|der| der.to_bytes().expect("base64"))
        .collect();
    let der = CertificateDer::from_pem_slice(root.pem.as_bytes()).expect("a certificate");
    assert_eq!(sent, [der.to_vec()]);

    let response = response.into_inner();
    assert_eq!(verify(&response, &root), Ok(()));
    assert!(verify(&response, &Ca::new("root", None)).is_err());
    let now = UnixTime::now().as_secs();
    let until = response.valid_until.expect("an end").seconds as u64;
    let day = 86_400 + 20;
    assert!(
        (now + day - 60..=now + day).contains(&until),
        "{now} {until}"
    );

    let api = WEB.replace("web", "api");
    for (identity, token, code, why) in [
        (
            &*api,
            mesh.token(),
            Code::FailedPrecondition,
            "the token is of demo/web",
        ),
        (WEB, String::new(), Code::InvalidArgument, "token: missing"),
        (
            WEB,
            Signer::generate()
                .sign("demo", "web", SOON)
                .expect("a token"),
            Code::FailedPrecondition,
            "its signature is wrong",
        ),
    ] {
        let refused = mesh.certify(identity, &token).await.expect_err(why);
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }

    let (_, metrics) = mesh.page("/metrics").await;
    for start in [
        "identity_certify_total{result=\"ok\"} 1",
        "identity_certify_total{result=\"identity_mismatch\"} 1",
        "identity_certify_total{result=\"malformed\"} 1",
        "identity_certify_total{result=\"token_refused\"} 1",
        "identity_issuer_reload_failures_total 0",
        "issuer_cert_ttl_seconds 6",
        "issuer_cert_expiration_timestamp_seconds 67",
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(start)),
            "{start} in {metrics}"
        );
    }
    mesh.app.stop().await;
}

#[tokio::test]
async fn issuers_and_roots_are_replaced() {
    let (old, new) = (Ca::new("old", None), Ca::new("new", None));
    let mesh = Mesh::start(&old, &Ca::new("a", Some(&old))).await;
    let overview = mesh.overview(|_| true).await;
    assert_eq!(overview["trust_domain"], "cluster.local");
    assert_eq!(overview["namespace"], "gossamer");
    assert_eq!(overview["issuer"]["subject"], "CN=a");
    assert_eq!(overview["issuer"]["issuer"], "CN=old");
    assert_eq!(overview["issuer"]["key_algorithm"], "ECDSA P-256");
    assert_eq!(overview["issuer"]["not_before"], "1975-01-01T00:00:00Z");
    assert_eq!(
        overview["trust_anchors"][0]["sha256"]
            .as_str()
            .map(str::len),
        Some(64)
    );
    assert_eq!(overview["errors"], serde_json::json!([]));

    let anchors = mesh.dir.path().join("anchors.pem");
    replace(&anchors, &format!("{}{}", old.pem, new.pem));
    mesh.overview(|o| o["trust_anchors"][1]["subject"] == "CN=new")
        .await;
    Ca::new("b", Some(&new)).write(mesh.dir.path());
    mesh.overview(|o| o["issuer"]["subject"] == "CN=b").await;
    let response = mesh
        .certify(WEB, &mesh.token())
        .await
        .expect("a certificate");
    assert_eq!(response.metadata().get_all_bin(METADATA).iter().count(), 2);
    assert_eq!(verify(response.get_ref(), &new), Ok(()));

    replace(&mesh.dir.path().join("issuer/crt.pem"), "garbage");
    let overview = mesh.overview(|o| o["errors"][0].is_string()).await;
    assert_eq!(
        overview["errors"][0],
        "issuer: certificate: no certificate in it"
    );
    assert_eq!(overview["issuer"]["subject"], "CN=b");
    let (status, ready) = mesh.page("/ready?verbose").await;
    let bad = "identity: bad: issuer: certificate: no certificate in it";
    assert!(
        status == 200 && ready.lines().any(|line| line == bad),
        "{ready}"
    );
    let response = mesh
        .certify(WEB, &mesh.token())
        .await
        .expect("a certificate");
    assert_eq!(verify(response.get_ref(), &new), Ok(()));
}

#[tokio::test]
async fn without_an_issuer_there_is_no_identity() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().to_str().expect("a plain path");
    let any = "127.0.0.1:0";
    let flags = ["mesh-controller", "--source", source, "--admin-addr", any];
    let off = ["--disable", "destination,policy,stats"];
    let args = Args::try_parse_from(flags.iter().chain(&off)).expect("arguments");
    let app = App::start(args).await.expect("a controller");
    assert_eq!(app.addrs().identity, None);
    let (status, _) = page(app.addrs().admin.expect("enabled"), "/identity.json").await;
    assert_eq!(status, 404);

    let missing = [
        "--identity-issuer",
        source,
        "--identity-trust-anchors",
        source,
    ];
    let args = Args::try_parse_from(flags.iter().chain(&off).chain(&missing)).expect("arguments");
    let refused = App::start(args).await.err().expect("no files").to_string();
    assert!(!refused.is_empty(), "{refused}");
}
