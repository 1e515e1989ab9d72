//! HTTP messages whose form a proxy has to change, or must not, and what goes ahead of an answer.

use crate::{
    http1::{HOST, recording},
    rig::{
        Both, SOON, WEB,
        mesh::{Mesh, Plan, Way},
        values, web,
    },
};
use integration::{
    control::ControlPlane,
    eventually, proxy,
    server::Server,
    tcp::{self, Raw, read_head},
};
use std::io;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

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

const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";

/// An application that gives hints to every request, and an answer when it is told to.
async fn hinting(hints: usize) -> (tcp::Server, watch::Sender<bool>) {
    let (answers, may_answer) = watch::channel(false);
    let server = tcp::Server::start(move |mut stream| {
        let mut may_answer = may_answer.clone();
        async move {
            while let Some(_head) = read_head(&mut stream).await? {
                stream.write_all(EARLY.repeat(hints).as_bytes()).await?;
                let answers = may_answer.wait_for(|may| *may).await;
                answers.map_err(io::Error::other)?;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await?;
            }
            Ok(())
        }
    })
    .await;
    (server, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_reach_the_client_before_the_answer() {
    let (server, answers) = hinting(2).await;
    let mesh = Plan::new(Way::Port).patient().start(server.addr());
    for addr in [mesh.addr(), mesh.app()] {
        answers.send_replace(false);
        let mut waiting = Vec::new();
        // Between sidecars the last ones of so many are carried over HTTP/2.
        for _ in 0..16 {
            let mut raw = Raw::connect(addr).await;
            raw.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n")).await;
            for _ in 0..2 {
                let hint = raw.answer_head().await;
                assert_eq!((hint.status, hint.header("link")), (103, Some("</a.css>")));
            }
            waiting.push(raw);
        }
        answers.send_replace(true);
        for mut raw in waiting {
            assert_eq!(raw.answer().await.status, 200);
            // The connection is good for more, and HTTP/1.0 knows of no hints.
            raw.send(format!("GET / HTTP/1.0\r\n{HOST}\r\n")).await;
            assert_eq!(raw.answer().await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_without_end_are_not_all_passed_on() {
    let (server, answers) = hinting(1000).await;
    answers.send_replace(true);
    let mesh = Mesh::start(Way::Port, server.addr());
    let mut raw = Raw::connect(mesh.addr()).await;
    raw.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n")).await;
    let mut hints = 0;
    while raw.answer_head().await.status == 103 {
        hints += 1;
    }
    assert!((1..100).contains(&hints), "{hints} hints");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_pass_over_http_2() {
    let server = tcp::Server::start(|stream| async move {
        let mut connection = h2::server::handshake(stream)
            .await
            .map_err(io::Error::other)?;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let hint = http::Response::builder().status(103).header("link", "a");
            let hint = hint.body(()).map_err(io::Error::other)?;
            respond.send_informational(hint).map_err(io::Error::other)?;
            respond
                .send_response(http::Response::new(()), true)
                .map_err(io::Error::other)?;
        }
        Ok(())
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let stream = TcpStream::connect(addr).await.expect("the proxy listens");
        let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = http::Request::get(web("/")).body(()).expect("valid");
        let (mut answer, _) = send.send_request(request, true).expect("it can be sent");
        let hint = std::future::poll_fn(|cx| answer.poll_informational(cx));
        let hint = eventually::within("a hint", SOON, hint).await;
        let hint = hint.expect("a hint").expect("no error");
        assert_eq!(
            (hint.status().as_u16(), &hint.headers()["link"]),
            (103, &http::HeaderValue::from_static("a")),
            "{path}"
        );
        let answer = eventually::within("an answer", SOON, answer).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{path}");
    }
}
