//! The whole controller in this process, on real sockets and a real directory.

use clap::Parser;
use linkerd2_proxy_api::{
    destination::{
        GetDestination, Update, destination_client::DestinationClient, update::Update as Kind,
    },
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::{TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec},
};
use mesh_controller::{app::App, args::Args};
use std::{fs, net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Streaming, transport::Channel};

const SOON: Duration = Duration::from_secs(10);

struct Mesh {
    dir: TempDir,
    app: App,
}

impl Mesh {
    async fn start(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let source = dir.path().to_str().expect("a plain path");
        let any = "127.0.0.1:0";
        let args = [
            "mesh-controller",
            "--source",
            source,
            "--destination-addr",
            any,
            "--policy-addr",
            any,
            "--metrics-api-addr",
            any,
            "--admin-addr",
            any,
        ];
        let args = Args::try_parse_from(args).expect("arguments");
        let app = App::start(args).await.expect("a controller");
        Self { dir, app }
    }

    fn write(&self, name: &str, text: &str) {
        // As editors and tools do it: the file is never half there.
        let temporary = self.dir.path().join(".new");
        fs::write(&temporary, text).expect("a file");
        fs::rename(temporary, self.dir.path().join(name)).expect("renamed");
    }

    async fn channel(addr: Option<SocketAddr>) -> Channel {
        let uri = format!("http://{}", addr.expect("enabled"));
        let endpoint = Channel::from_shared(uri).expect("an address");
        endpoint.connect().await.expect("connected")
    }

    async fn get(&self, path: &str) -> Result<Streaming<Update>, tonic::Status> {
        let channel = Self::channel(self.app.addrs().destination).await;
        let request = GetDestination {
            path: path.to_owned(),
            ..GetDestination::default()
        };
        let response = DestinationClient::new(channel).get(request).await?;
        Ok(response.into_inner())
    }

    /// Status and body of a page.
    async fn page(addr: Option<SocketAddr>, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(addr.expect("enabled"))
            .await
            .expect("connected");
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
}

fn service(ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: demo}}\n\
         spec:\n  selector: {{app: web}}\n  clusterIP: 10.1.0.1\n  ports: {ports}\n"
    )
}

fn pod(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo, labels: {{app: web}}}}\n\
         status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

const PORTS: &str = "[{port: 80, targetPort: 8080}]";
const WEB: &str = "web.demo.svc.cluster.local:80";

/// The next update: `+ip` per added, `-ip` per removed address, or `exists=..` for none.
async fn next(stream: &mut Streaming<Update>) -> Vec<String> {
    let update = timeout(SOON, stream.message())
        .await
        .expect("in time")
        .expect("no error");
    let ip = |addr: linkerd2_proxy_api::net::TcpAddress| {
        SocketAddr::try_from(addr)
            .expect("an address")
            .ip()
            .to_string()
    };
    match update.and_then(|u| u.update).expect("an update") {
        Kind::Add(set) => {
            let addrs = set.addrs.into_iter().filter_map(|a| a.addr);
            addrs.map(|a| format!("+{}", ip(a))).collect()
        }
        Kind::Remove(set) => set
            .addrs
            .into_iter()
            .map(|a| format!("-{}", ip(a)))
            .collect(),
        Kind::NoEndpoints(none) => vec![format!("exists={}", none.exists)],
    }
}

#[tokio::test]
async fn endpoints_follow_the_files() {
    let mesh = Mesh::start(&[
        ("web.yaml", &service(PORTS)),
        ("p0.yaml", &pod("p0", "10.0.0.1")),
    ])
    .await;
    let mut stream = mesh.get(WEB).await.expect("a stream");
    assert_eq!(next(&mut stream).await, ["+10.0.0.1"]);
    mesh.write("p1.yaml", &(pod("p1", "10.0.0.2") + &pod("p2", "10.0.0.3")));
    assert_eq!(next(&mut stream).await, ["+10.0.0.2", "+10.0.0.3"]);
    mesh.write("p1.yaml", &pod("p2", "10.0.0.3"));
    assert_eq!(next(&mut stream).await, ["-10.0.0.2"]);

    // A bad file keeps what it held, so the next news are of another file.
    mesh.write("p1.yaml", "kind: Pod\nmetadata: [\n");
    mesh.write("p3.yaml", &pod("p3", "10.0.0.4"));
    assert_eq!(next(&mut stream).await, ["+10.0.0.4"]);

    for file in ["p0.yaml", "p1.yaml", "p3.yaml"] {
        mesh.write(file, "# nothing\n");
    }
    while next(&mut stream).await != ["exists=true"] {}
    mesh.write("web.yaml", "# nothing\n");
    assert_eq!(next(&mut stream).await, ["exists=false"]);
    mesh.app.stop().await;
    let end = timeout(SOON, stream.message()).await.expect("in time");
    assert!(matches!(end, Ok(None)), "{end:?}");
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: demo}\n\
                    spec: {type: ExternalName, externalName: example.com}\n";
    let mesh = Mesh::start(&[("web.yaml", &(service(PORTS) + external))]).await;
    let table = [
        ("api.demo.svc.cluster.local:80", Code::NotFound),
        ("out.demo.svc.cluster.local:80", Code::InvalidArgument),
        ("example.com:80", Code::InvalidArgument),
        ("10.1.0.1:80", Code::InvalidArgument),
        ("web.demo.svc.cluster.local:0", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ];
    for (path, code) in table {
        let refused = mesh.get(path).await.expect_err(path);
        assert_eq!(refused.code(), code, "{path}: {refused}");
    }
    let mut stream = mesh.get(WEB).await.expect("a stream");
    assert_eq!(next(&mut stream).await, ["exists=true"]);
    let channel = Mesh::channel(mesh.app.addrs().destination).await;
    let mut elsewhere = OutboundPoliciesClient::new(channel);
    let refused = elsewhere
        .get(TrafficSpec::default())
        .await
        .expect_err("another service's method");
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn policies_follow_the_files() {
    let files = [
        ("web.yaml", &*service(PORTS)),
        ("p0.yaml", &*pod("p0", "10.0.0.1")),
    ];
    let mesh = Mesh::start(&files).await;
    let channel = Mesh::channel(mesh.app.addrs().policy).await;
    let mut outbound = OutboundPoliciesClient::new(channel.clone());
    let spec = |authority: &str, workload: &str| TrafficSpec {
        source_workload: workload.to_owned(),
        target: Some(traffic_spec::Target::Authority(authority.to_owned())),
    };
    let workload = r#"{"ns":"demo","pod":"p0"}"#;
    let watch = outbound.watch(spec(WEB, workload)).await.expect("a stream");
    let mut watch = watch.into_inner();
    let first = watch.message().await.expect("no error").expect("a policy");
    mesh.write(
        "web.yaml",
        &service("[{port: 80, targetPort: 8080, appProtocol: http}]"),
    );
    let second = timeout(SOON, watch.message()).await.expect("in time");
    assert_ne!(second.expect("no error"), Some(first));
    mesh.write("web.yaml", "# nothing\n");
    let gone = timeout(SOON, watch.message())
        .await
        .expect("in time")
        .expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);

    for (authority, workload, code) in [
        ("example.com:443", workload, Code::NotFound),
        ("a b", workload, Code::InvalidArgument),
        (WEB, "rubbish", Code::InvalidArgument),
    ] {
        let refused = outbound
            .get(spec(authority, workload))
            .await
            .expect_err(authority);
        assert_eq!(refused.code(), code, "{authority}: {refused}");
    }

    let mut inbound = InboundServerPoliciesClient::new(channel);
    let port = |workload: &str, port| PortSpec {
        workload: workload.to_owned(),
        port,
    };
    let server = inbound
        .get_port(port(workload, 8080))
        .await
        .expect("a policy")
        .into_inner();
    assert_eq!(server.labels["name"], "all-unauthenticated");
    for (workload, number, code) in [
        ("demo:p9", 80, Code::NotFound),
        (workload, 0, Code::InvalidArgument),
        (workload, 65_536, Code::InvalidArgument),
        ("", 80, Code::InvalidArgument),
    ] {
        let refused = inbound
            .get_port(port(workload, number))
            .await
            .expect_err(workload);
        assert_eq!(refused.code(), code, "{workload} {number}: {refused}");
    }
}

#[tokio::test]
async fn pages_tell_what_is_wrong() {
    let bad = service("[{port: 80}]").replace("port: 80", "port: eighty");
    let p0 = pod("p0", "10.0.0.1");
    let mesh = Mesh::start(&[("bad.yaml", &bad), ("p0.yaml", &p0), ("twice.yaml", &p0)]).await;
    let admin = mesh.app.addrs().admin;
    assert_eq!(Mesh::page(admin, "/live").await, (200, "live\n".to_owned()));
    let (status, ready) = Mesh::page(admin, "/ready?verbose").await;
    assert_eq!(status, 200);
    let line = ready
        .lines()
        .find(|l| l.starts_with("bad.yaml"))
        .expect("the file");
    assert!(
        line.contains("bad, 0 objects kept: line 7: spec.ports"),
        "{line}"
    );
    let twice = "twice.yaml: line 3: Pod demo/p0 is defined before, ignored here";
    assert!(ready.lines().any(|line| line == twice), "{ready}");
    let (_, metrics) = Mesh::page(admin, "/metrics").await;
    for line in [
        "source_files{state=\"bad\"} 1",
        "source_files{state=\"ok\"} 2",
        "source_duplicates 1",
        "source_errors_total 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    let stats = mesh.app.addrs().stats;
    let (status, pods) = Mesh::page(stats, "/api/pods").await;
    assert!(status == 200 && pods.contains("\"name\":\"p0\""), "{pods}");
    let (status, rows) = Mesh::page(stats, "/api/stat?kind=pod&window=30s").await;
    assert!(
        status == 200 && rows.contains("\"meshed\":\"0/1\""),
        "{rows}"
    );
    let (status, error) = Mesh::page(stats, "/api/stat?kind=job").await;
    assert!(status == 400 && error.contains("deployment"), "{error}");
}
