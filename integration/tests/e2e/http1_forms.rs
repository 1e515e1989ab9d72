//! HTTP/1 messages whose form a proxy has to change, or must not.

use crate::{
    http1::{HOST, recording},
    rig::{
        WEB,
        mesh::{Mesh, Way},
        values, web,
    },
};
use integration::{control::ControlPlane, proxy, server::Server, tcp::Raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_need_not_say_for_whom_it_is() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    for (entry, addr, want) in [
        ("both", mesh.addr(), "web.demo.svc.cluster.local".to_owned()),
        ("inbound", mesh.app(), mesh.app().to_string()),
    ] {
        let mut raw = Raw::connect(addr).await;
        raw.send("GET /headers HTTP/1.0\r\n\r\n").await;
        let answer = raw.answer().await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{entry}");
        assert_eq!(values(&text, "host"), [want], "{entry}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_a_server_as_a_whole_reach_it_as_such() {
    let (server, heads) = recording(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let control = ControlPlane::start();
    control.service(WEB, &[server.addr()]);
    let proxy = proxy::with(&control).start();
    for (target, want) in [("", "*"), ("/", "/"), ("?q", "/?q")] {
        let mut raw = Raw::connect(proxy.outbound()).await;
        let uri = web(target);
        raw.send(format!("OPTIONS {uri} HTTP/1.1\r\n{HOST}\r\n"))
            .await;
        assert_eq!(raw.answer_head().await.status, 204, "{uri}");
        let head = heads.lock().pop().expect("a request");
        assert!(
            head.starts_with(&format!("OPTIONS {want} HTTP/1.1\r\n")),
            "{uri}: {head}"
        );
    }
}
