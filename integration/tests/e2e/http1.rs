//! HTTP/1.0 and 1.1 through both directions.

use crate::rig::{Both, Outbound, SOON, web};
use integration::{
    client::{self, Client},
    eventually,
    server::Server,
    tcp::{self, Raw, read_head},
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const HOST: &str = "host: web.demo.svc.cluster.local\r\n";

/// A backend that keeps what it was sent, head by head, and answers with `response`.
pub(crate) async fn recording(response: &'static [u8]) -> (tcp::Server, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let server = tcp::Server::start(move |mut stream| {
        let kept = kept.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await? {
                kept.lock().push(head);
                stream.write_all(response).await?;
            }
            Ok(())
        }
    })
    .await;
    (server, heads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_many_requests() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let before = server.accepted();
        let mut client = Client::http1(addr).await;
        for _ in 0..20 {
            let answer = client.send(client::request(&web("/"))).await;
            assert_eq!(
                (answer.status.as_u16(), answer.server()),
                (200, "app"),
                "{path}"
            );
        }
        assert_eq!(
            server.accepted() - before,
            1,
            "{path}: one connection to the endpoint is enough"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_answered_and_closed() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!("GET /bytes/9 HTTP/1.0\r\n{HOST}\r\n"))
            .await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, 9));
        raw.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        let requests: String = (1..=5)
            .map(|n| format!("GET /bytes/{n} HTTP/1.1\r\n{HOST}\r\n"))
            .collect();
        raw.send(requests).await;
        for n in 1..=5 {
            assert_eq!(raw.answer().await.body.len(), n);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_request_trailers_reach_the_endpoint() {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = seen.clone();
    let server = tcp::Server::start(move |mut stream| {
        let kept = kept.clone();
        async move {
            let mut chunk = [0; 1024];
            while !kept.lock().ends_with(b"x-sum: 5\r\n\r\n") {
                let n = stream.read(&mut chunk).await?;
                kept.lock().extend_from_slice(&chunk[..n]);
                if n == 0 {
                    return Ok(());
                }
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
        }
    })
    .await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        seen.lock().clear();
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.answer().await.status, 200);
        let text = String::from_utf8_lossy(&seen.lock()).into_owned();
        assert!(text.contains("hello"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_response_trailers_reach_the_client() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "GET /trailers HTTP/1.1\r\n{HOST}te: trailers\r\n\r\n"
        ))
        .await;
        let answer = raw.answer().await;
        let body = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
        assert_eq!(answer.status, 200);
        assert!(
            body.contains("hello") && body.contains("x-checksum: 5"),
            "{body:?}"
        );
    }
}

/// An endpoint that answers heads with `first`, and bodies of five bytes with 200.
async fn expecting(first: &'static str) -> tcp::Server {
    tcp::Server::start(move |mut stream| async move {
        while read_head(&mut stream).await?.is_some() {
            stream.write_all(first.as_bytes()).await?;
            let mut body = [0; 5];
            stream.read_exact(&mut body).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
                .await?;
            stream.write_all(&body).await?;
        }
        Ok(())
    })
    .await
}

fn expectant() -> String {
    format!("POST / HTTP/1.1\r\n{HOST}content-length: 5\r\nexpect: 100-continue\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_the_endpoints_to_answer() {
    // One that has never heard of it is sent the body a little later.
    for first in ["HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let server = expecting(first).await;
        let both = Both::start(server.addr());
        for (path, addr) in both.paths() {
            let mut raw = Raw::connect(addr).await;
            for _ in 0..2 {
                raw.send(expectant()).await;
                assert_eq!(raw.answer_head().await.status, 100, "{path}");
                raw.send("hello").await;
                let answer = raw.answer().await;
                assert_eq!(
                    (answer.status, &answer.body[..]),
                    (200, &b"hello"[..]),
                    "{path}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_endpoint_refuses_is_not_asked_for() {
    for refusal in [
        "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 413 Too Large\r\ntransfer-encoding: chunked\r\n\r\n3\r\nno!\r\n",
    ] {
        let server = expecting(refusal).await;
        let both = Both::start(server.addr());
        for (path, addr) in both.paths() {
            let mut raw = Raw::connect(addr).await;
            raw.send(expectant()).await;
            assert_eq!(raw.answer_head().await.status, 413, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_answers_keep_their_length_and_have_no_body() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!("HEAD /bytes/100 HTTP/1.1\r\n{HOST}\r\n"))
            .await;
        let head = raw.answer_head().await;
        assert_eq!(head.header("content-length"), Some("100"));
        // What comes next on the connection is the next answer and no body.
        raw.send(format!("GET /bytes/3 HTTP/1.1\r\n{HOST}\r\n"))
            .await;
        assert_eq!(raw.answer().await.body, b"bbb");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "GET /upgrade HTTP/1.1\r\n{HOST}connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ))
        .await;
        let answer = raw.answer_head().await;
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        raw.send("\x00\x01frames").await;
        raw.expect("\x00\x01frames").await;
        raw.send("more").await;
        raw.expect("more").await;
        raw.finish_sending().await;
        raw.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_opens_a_tunnel_by_name_and_by_address() {
    let server = tcp::Server::echo().await;
    let both = Both::start(server.addr());
    let by_address = server.addr().to_string();
    for target in ["web.demo.svc.cluster.local:80", "web:80", &by_address] {
        let mut raw = Raw::connect(both.proxy.outbound()).await;
        raw.send(format!(
            "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.answer_head().await.status, 200, "{target}");
        raw.send("\x01through the tunnel").await;
        raw.expect("\x01through the tunnel").await;
        raw.finish_sending().await;
        raw.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_case_is_preserved_both_ways() {
    let response = b"HTTP/1.1 200 OK\r\nX-CamelCase: yes\r\nContent-Length: 0\r\n\r\n";
    let (server, heads) = recording(response).await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!("GET / HTTP/1.1\r\n{HOST}X-MyHeader: 1\r\n\r\n"))
            .await;
        let answer = raw.answer().await;
        assert!(
            answer.head.contains("X-CamelCase: yes"),
            "{path}: {}",
            answer.head
        );
        let sent = heads.lock().pop().expect("a request came");
        assert!(sent.contains("X-MyHeader: 1"), "{path}: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let response = b"HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\n\
        Keep-Alive: timeout=5\r\nX-Public: 1\r\nContent-Length: 0\r\n\r\n";
    let (server, heads) = recording(response).await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "GET / HTTP/1.1\r\n{HOST}connection: x-mine, keep-alive\r\nx-mine: 1\r\n\
             keep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nx-yours: 1\r\n\r\n"
        ))
        .await;
        let answer = raw.answer().await;
        assert_eq!(answer.header("x-private"), None, "{path}");
        assert_eq!(answer.header("keep-alive"), None, "{path}");
        assert_eq!(answer.header("x-public"), Some("1"), "{path}");
        let sent = heads
            .lock()
            .pop()
            .expect("a request came")
            .to_ascii_lowercase();
        for hop in ["x-mine:", "keep-alive:", "proxy-connection:"] {
            assert!(
                !sent.contains(&format!("\n{hop}")),
                "{path}: {hop} in {sent}"
            );
        }
        assert!(sent.contains("x-yours: 1"), "{path}: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forward_proxy_takes_absolute_uris_and_expands_short_names() {
    let outbound = Outbound::start(1).await;
    for host in [
        "web.demo.svc.cluster.local",
        "web.demo.svc",
        "web.demo",
        "web",
    ] {
        let uri = format!("http://{host}/headers");
        let answer = client::get(outbound.proxy.outbound(), &uri).await;
        assert_eq!(
            (answer.status.as_u16(), answer.server()),
            (200, "r0"),
            "{host}"
        );
        let text = answer.text();
        assert!(
            text.starts_with("GET /headers "),
            "origin form is for endpoints: {text}"
        );
        assert!(text.contains(&format!("host: {host}\n")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_length_ends_with_its_connection() {
    let server = tcp::Server::start(|mut stream| async move {
        read_head(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end")
            .await
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let answer = client::get(addr, &web("/")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, "until the end".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_never_passed_off_as_whole() {
    let server = tcp::Server::start(|mut stream| async move {
        read_head(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http1(addr).await;
        let answer = client.try_send(client::request(&web("/"))).await;
        assert!(answer.is_err(), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_is_passed_on_while_the_body_is_still_sent() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "POST /early HTTP/1.1\r\n{HOST}content-length: 1000000\r\n\r\nstart"
        ))
        .await;
        let answer = eventually::within("early answer", SOON, raw.answer()).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_and_answer_stream_side_by_side() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "POST /echo HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.answer_head().await.status, 200, "{path}");
        for _ in 0..3 {
            raw.send("5\r\nhello\r\n").await;
            raw.expect("5\r\nhello\r\n").await;
        }
        raw.send("0\r\n\r\n").await;
        raw.expect("0\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_send_all_before_it_reads_any() {
    const LENGTH: usize = 16 << 20;
    // An endpoint that answers before it has read anything, and answers more than sockets hold.
    let server = tcp::Server::start(|mut stream| async move {
        read_head(&mut stream).await?;
        let (mut read, mut write) = stream.split();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        let answering = async {
            write.write_all(head.as_bytes()).await?;
            write.write_all(&vec![b'b'; LENGTH]).await
        };
        let reading = async {
            let mut body = vec![0; LENGTH];
            read.read_exact(&mut body).await
        };
        tokio::try_join!(answering, reading).map(|_| ())
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!(
            "POST / HTTP/1.1\r\n{HOST}content-length: {LENGTH}\r\n\r\n"
        ))
        .await;
        raw.send(vec![b'a'; LENGTH]).await;
        assert_eq!(raw.answer().await.body.len(), LENGTH, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_endpoints_close_unannounced_fail_no_request() {
    let server = tcp::Server::start(|mut stream| async move {
        for _ in 0..2 {
            read_head(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await?;
        }
        Ok(())
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        for n in 0..100 {
            raw.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n")).await;
            assert_eq!(raw.answer().await.status, 200, "{path}: request {n}");
        }
    }
}
