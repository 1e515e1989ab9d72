//! HTTP/1 between sidecars looks the same to both applications however it is carried: as it is
//! without a mesh, as HTTP/1.1 when little is in flight, within HTTP/2 when much is.

use crate::rig::{
    APP_PORT, SOON, WEB, WEB_PORT,
    mesh::{Mesh, Plan, Way},
    message::{Kind, Message},
    web,
};
use integration::{
    client,
    control::ControlPlane,
    eventually,
    load::Load,
    proxy::{self, Proxy},
    server::Server,
    tcp::{self, Raw, read_head},
};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::AsyncWriteExt;

const HOST: &str = "host: web.demo.svc.cluster.local\r\n";
/// Requests that are in flight all the time when much is.
const CROWD: usize = 200;

/// What the recorder answers, by path.
const ANSWERS: [(&str, &[u8]); 7] = [
    (
        "/length",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: 1\r\nx-a: 2\r\nx-empty:\r\n\r\nhello",
    ),
    (
        "/chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
          3\r\nhel\r\n2\r\nlo\r\n0\r\nx-sum: 5\r\n\r\n",
    ),
    ("/none", b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n"),
    ("/same", b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n"),
    ("/empty", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    (
        "/until-the-end",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
    ),
    (
        "/cookies",
        b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n",
    ),
];

/// Requests as clients write them; PATH is one of those above.
const REQUESTS: [&str; 13] = [
    "GET PATH HTTP/1.1\r\nHOST\r\n",
    "HEAD PATH HTTP/1.1\r\nHOST\r\n",
    "GET PATH?a=1&b=%20 HTTP/1.1\r\nHOST\r\n",
    "GET PATH HTTP/1.1\r\nHOSTte: trailers\r\nconnection: te\r\n\r\n",
    "GET PATH HTTP/1.0\r\nHOST\r\n",
    "GET PATH HTTP/1.0\r\nHOSTconnection: keep-alive\r\n\r\n",
    "GET PATH HTTP/1.1\r\nHOSTconnection: close\r\n\r\n",
    "GET http://web.demo.svc.cluster.localPATH HTTP/1.1\r\nHOST\r\n",
    "GET PATH HTTP/1.1\r\nhost: other.example:8080\r\n\r\n",
    "POST PATH HTTP/1.1\r\nHOSTcontent-length: 5\r\n\r\nhello",
    "POST PATH HTTP/1.1\r\nHOSTcontent-length: 0\r\n\r\n",
    "POST PATH HTTP/1.1\r\nHOSTtransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
     2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 5\r\n\r\n",
    "DELETE PATH HTTP/1.1\r\nHOSTx-a: 1\r\nx-a: 2\r\ncookie: a=1; b=2\r\nx-empty:\r\n\r\n",
];

/// An application that keeps what it is sent, answers by [`ANSWERS`], and never to `/hold`.
struct Recorder {
    server: tcp::Server,
    seen: Arc<Mutex<Vec<Message>>>,
    held: Arc<AtomicUsize>,
}

impl Recorder {
    async fn start() -> Self {
        let (seen, held): (Arc<Mutex<Vec<Message>>>, Arc<AtomicUsize>) = Default::default();
        let (kept, holds) = (seen.clone(), held.clone());
        let server = tcp::Server::start(move |mut stream| {
            let (kept, holds) = (kept.clone(), holds.clone());
            async move {
                while let Some(message) = Message::read(&mut stream, Kind::Request).await? {
                    if message.start.contains("/hold") {
                        holds.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<()>().await;
                    }
                    let answer = answer_to(&message);
                    kept.lock().push(message);
                    stream.write_all(&answer).await?;
                    if answer.windows(5).any(|window| window == b"close") {
                        return stream.shutdown().await;
                    }
                }
                Ok(())
            }
        })
        .await;
        Self { server, seen, held }
    }
}

fn answer_to(message: &Message) -> Vec<u8> {
    let is_path = |(path, _): &&(&str, &[u8])| message.start.contains(path);
    let (_, answer) = ANSWERS.iter().find(is_path).expect("a path of the test");
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    match message.start.starts_with("HEAD ") {
        true => answer[..head.expect("a head") + 4].to_vec(),
        false => answer.to_vec(),
    }
}

/// One exchange, seen from both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchange {
    /// What the application was sent.
    request: Option<Message>,
    /// What the client was sent.
    answer: Option<Message>,
    /// Whether the client's connection takes another request.
    is_kept: bool,
}

async fn exchange(addr: SocketAddr, recorder: &Recorder, request: &str) -> Exchange {
    recorder.seen.lock().clear();
    let kind = match request.starts_with("HEAD ") {
        true => Kind::AnswerToHead,
        false => Kind::Answer,
    };
    let mut raw = Raw::connect(addr).await;
    raw.send(request).await;
    let stream = raw.stream();
    let answer = Message::read(stream, kind);
    let answer = eventually::within(request, SOON, answer).await;
    let request = recorder.seen.lock().pop();
    let again = async {
        let again = format!("GET /empty HTTP/1.1\r\n{HOST}\r\n");
        stream.write_all(again.as_bytes()).await.ok()?;
        read_head(stream).await.ok()?
    };
    let again = eventually::within("another request", SOON, again).await;
    Exchange {
        request,
        answer: answer.ok().flatten(),
        is_kept: again.is_some(),
    }
}

/// Sidecars that know of no identities, in front of `app`.
fn without_mesh(app: SocketAddr) -> (ControlPlane, [Proxy; 2]) {
    let control = ControlPlane::start();
    let server = proxy::with(&control).inbound(APP_PORT, app).start();
    control.service(WEB, &[server.port(APP_PORT)]);
    let client = proxy::with(&control).outbound(WEB_PORT, WEB).start();
    (control, [client, server])
}

/// Requests for `/hold`, one connection each.
async fn crowd(addr: SocketAddr) -> Vec<Raw> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut raw = Raw::connect(addr).await;
        raw.send(format!("GET /hold HTTP/1.1\r\n{HOST}\r\n")).await;
        crowd.push(raw);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_look_the_same_to_both_ends() {
    let recorder = Recorder::start().await;
    let (_control, plain) = without_mesh(recorder.server.addr());
    for way in Way::BOTH {
        let mesh = Plan::new(way).patient().start(recorder.server.addr());
        let held = recorder.held.load(Ordering::SeqCst);
        let mut in_flight = Vec::new();
        for load in ["little", "much"] {
            if load == "much" {
                in_flight = crowd(mesh.addr()).await;
                eventually::holds("all are in flight", SOON * 2, || async {
                    recorder.held.load(Ordering::SeqCst) == held + CROWD
                })
                .await;
            }
            for (path, _) in ANSWERS {
                for request in REQUESTS {
                    let request = request.replace("PATH", path).replace("HOST", HOST);
                    let expected = exchange(plain[0].port(WEB_PORT), &recorder, &request).await;
                    let seen = exchange(mesh.addr(), &recorder, &request).await;
                    assert_eq!(seen, expected, "{way:?}, {load} in flight: {request:?}");
                }
            }
        }
        assert_eq!(in_flight.len(), CROWD);
    }
}

/// A pair in front of the test server, and as many requests in flight as `in_flight` says.
struct Carried {
    mesh: Mesh,
    app: Server,
    _crowd: Vec<Raw>,
}

impl Carried {
    async fn start(is_much: bool) -> Self {
        let app = Server::start("app").await;
        let mesh = Plan::new(Way::Port).patient().start(app.addr());
        let mut held = Vec::new();
        if is_much {
            for _ in 0..CROWD {
                let mut raw = Raw::connect(mesh.addr()).await;
                raw.send(format!("GET /hang HTTP/1.1\r\n{HOST}\r\n")).await;
                held.push(raw);
            }
            eventually::holds("all are in flight", SOON * 2, || async {
                app.requests() == CROWD
            })
            .await;
        }
        Self {
            mesh,
            app,
            _crowd: held,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgraded_connections_carry_bytes_both_ways() {
    for is_much in [false, true] {
        let carried = Carried::start(is_much).await;
        let mut raw = Raw::connect(carried.mesh.addr()).await;
        raw.send(format!(
            "GET /upgrade HTTP/1.1\r\n{HOST}connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ))
        .await;
        let answer = raw.answer_head().await;
        assert_eq!(
            (answer.status, answer.header("upgrade")),
            (101, Some("websocket"))
        );
        for text in ["\x00\x01frames", "more"] {
            raw.send(text).await;
            raw.expect(text).await;
        }
        raw.finish_sending().await;
        raw.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_answered_before_the_body() {
    for is_much in [false, true] {
        let carried = Carried::start(is_much).await;
        let mut raw = Raw::connect(carried.mesh.addr()).await;
        raw.send(format!(
            "POST / HTTP/1.1\r\n{HOST}content-length: 5\r\nexpect: 100-continue\r\n\r\n"
        ))
        .await;
        assert_eq!(
            raw.answer_head().await.status,
            100,
            "much in flight: {is_much}"
        );
        raw.send("hello").await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_passed_on_as_they_come() {
    for is_much in [false, true] {
        let carried = Carried::start(is_much).await;
        let mut raw = Raw::connect(carried.mesh.addr()).await;
        raw.send(format!(
            "POST /echo HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        assert_eq!(
            raw.answer_head().await.status,
            200,
            "much in flight: {is_much}"
        );
        for text in ["first", "other"] {
            raw.send(format!("5\r\n{text}\r\n")).await;
            raw.expect(format!("5\r\n{text}\r\n")).await;
        }
        raw.send("0\r\n\r\n").await;
        raw.expect("0\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    for is_much in [false, true] {
        let carried = Carried::start(is_much).await;
        let mut raw = Raw::connect(carried.mesh.addr()).await;
        let requests = (1..=5).map(|n| format!("GET /bytes/{n} HTTP/1.1\r\n{HOST}\r\n"));
        raw.send(requests.collect::<String>()).await;
        for n in 1..=5 {
            assert_eq!(
                raw.answer().await.body.len(),
                n,
                "much in flight: {is_much}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_never_passed_off_as_whole() {
    let broken = tcp::Server::start(|mut stream| async move {
        let head = read_head(&mut stream).await?;
        if head.is_some_and(|head| head.contains("/hold")) {
            std::future::pending::<()>().await;
        }
        let start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf";
        stream.write_all(start).await
    })
    .await;
    let mesh = Mesh::start(Way::Port, broken.addr());
    for is_much in [false, true] {
        let _crowd = match is_much {
            true => crowd(mesh.addr()).await,
            false => Vec::new(),
        };
        let mut client = client::Client::http1(mesh.addr()).await;
        let answer = client.try_send(client::request(&web("/"))).await;
        let is_whole = answer.is_ok_and(|answer| answer.status == 200);
        assert!(!is_whole, "much in flight: {is_much}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_between_the_two_under_load_fails_nothing() {
    for way in Way::BOTH {
        let app = Server::start("app").await;
        let mesh = Mesh::start(way, app.addr());
        app.delay(Duration::from_millis(100));
        let uri = web("/bytes/1000");
        let little = Load::http1(mesh.addr(), &uri)
            .rate(50)
            .connections(2)
            .start();
        for _ in 0..4 {
            let much = Load::http1(mesh.addr(), &uri)
                .rate(600)
                .connections(128)
                .start();
            let before = much.report().ok;
            eventually::holds("a wave", SOON * 4, || async {
                much.report().ok > before + 500
            })
            .await;
            much.stop().await.assert_no_failure();
            let before = little.report().ok;
            eventually::holds("calm", SOON * 4, || async {
                little.report().ok > before + 25
            })
            .await;
        }
        little.stop().await.assert_no_failure();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_went_away_is_told_of_the_same_way() {
    for is_much in [false, true] {
        let carried = Carried::start(is_much).await;
        carried.app.kill();
        eventually::holds("the application's sidecar notices", SOON, || async {
            let answer = client::get(carried.mesh.addr(), &web("/")).await;
            answer.status == 502
        })
        .await;
        carried.app.listen().await;
        eventually::holds("it is back", SOON * 2, || async {
            client::get(carried.mesh.addr(), &web("/")).await.status == 200
        })
        .await;
    }
}
