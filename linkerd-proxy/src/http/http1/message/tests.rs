//! What messages come to on the wire.

use super::*;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use std::convert::Infallible;
use tokio_test::{assert_ready, task};

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

fn frames(frames: Vec<Frame<Bytes>>) -> BoxBody<Bytes, Infallible> {
    let frames: Frames = frames.into_iter().map(Ok).collect();
    BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))
}

fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

/// Everything a message comes to on the wire, written `step` bytes at a time.
fn written<B: Body<Data = Bytes> + Unpin>(
    mut message: Message,
    mut body: B,
    step: usize,
) -> Result<String, Broken> {
    let mut out = Vec::new();
    let mut task = task::spawn(());
    loop {
        assert_ready!(task.enter(|cx, _| message.poll_fill(cx, Pin::new(&mut body))))?;
        while !message.is_written() {
            let (pieces, n) = message.pieces();
            let all: Vec<u8> = pieces[..n].iter().flat_map(|p| p.to_vec()).collect();
            assert!(pieces[..n].iter().all(|piece| !piece.is_empty()));
            let taken = step.min(all.len());
            out.extend_from_slice(&all[..taken]);
            message.advance(taken);
        }
        if message.is_whole() {
            return Ok(String::from_utf8(out).unwrap());
        }
    }
}

fn asked(method: Method, version: Version) -> Asked {
    Asked { method, version }
}

fn answer<B: Body<Data = Bytes> + Unpin>(
    mut response: Response<B>,
    asked: &Asked,
) -> (Result<String, Broken>, bool) {
    let (message, kept) = Message::response(&mut response, &Spelling::default(), asked, true);
    (written(message, response.into_body(), usize::MAX), kept)
}

#[test]
fn a_request_without_length_goes_in_chunks() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    trailers.insert(CONTENT_LENGTH, HeaderValue::from_static("9"));
    let body = vec![data("hello"), data(""), Frame::trailers(trailers)];
    for step in [1, 7, usize::MAX] {
        let mut request = Request::post("/p?q").body(frames(body_of(&body))).unwrap();
        let message = Message::request(&mut request, &Spelling::default());
        assert_eq!(
            written(message, request.into_body(), step).unwrap(),
            "POST /p?q HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"
        );
    }
}

fn body_of(frames: &[Frame<Bytes>]) -> Vec<Frame<Bytes>> {
    frames
        .iter()
        .map(|frame| match frame.data_ref() {
            Some(data) => Frame::data(data.clone()),
            None => Frame::trailers(frame.trailers_ref().unwrap().clone()),
        })
        .collect()
}

#[test]
fn large_data_is_not_copied_and_stays_in_order() {
    let large = "x".repeat(COPIED + 1);
    for step in [1000, usize::MAX] {
        let mut request = Request::post("/")
            .body(frames(vec![data(&large), data("y")]))
            .unwrap();
        let message = Message::request(&mut request, &Spelling::default());
        let text = written(message, request.into_body(), step).unwrap();
        let want = format!(
            "\r\n\r\n{:x}\r\n{large}\r\n1\r\ny\r\n0\r\n\r\n",
            large.len()
        );
        assert!(text.ends_with(&want));
    }
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    for (body, want) in [
        (vec![data("he"), data("llo")], true),
        (vec![data("hell")], false),
        (vec![data("hello!")], false),
        (vec![], false),
    ] {
        let mut request = Request::post("/")
            .header(CONTENT_LENGTH, 5)
            .body(frames(body))
            .unwrap();
        let message = Message::request(&mut request, &Spelling::default());
        let text = written(message, request.into_body(), usize::MAX);
        assert_eq!(text.is_ok(), want, "{text:?}");
    }
}

#[test]
fn an_answer_suits_who_asked() {
    let full = || Response::new(Full::new(Bytes::from_static(b"hello")));
    let new = asked(Method::GET, Version::HTTP_11);
    let (text, kept) = answer(full(), &new);
    assert_eq!(
        text.unwrap(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    );
    assert!(kept);
    let (text, _) = answer(full(), &asked(Method::GET, Version::HTTP_10));
    assert!(text.unwrap().starts_with("HTTP/1.0 200 OK\r\n"));

    let chunked = |text| {
        let mut response = Response::new(frames(vec![data(text)]));
        response
            .headers_mut()
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        response
    };
    let (text, kept) = answer(chunked("hi"), &new);
    assert!(
        text.unwrap()
            .ends_with("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    );
    assert!(kept);
    let (text, kept) = answer(chunked("hi"), &asked(Method::GET, Version::HTTP_10));
    assert_eq!(
        text.unwrap(),
        "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi"
    );
    assert!(!kept);
}

#[test]
fn some_answers_have_no_body() {
    let with = |status: StatusCode| {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_LENGTH, 7.into());
        response
    };
    for (method, status, keeps_length) in [
        (Method::HEAD, StatusCode::OK, true),
        (Method::GET, StatusCode::NOT_MODIFIED, true),
        (Method::GET, StatusCode::NO_CONTENT, false),
        (Method::CONNECT, StatusCode::OK, false),
    ] {
        let (text, _) = answer(with(status), &asked(method, Version::HTTP_11));
        let text = text.unwrap();
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(text.contains("content-length: 7"), keeps_length, "{text}");
    }
}

#[test]
fn the_head_says_whether_the_connection_stays() {
    let with = |connection: Option<&'static str>, status: StatusCode| {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = status;
        if let Some(connection) = connection {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static(connection));
        }
        response
    };
    let new = asked(Method::GET, Version::HTTP_11);
    let old = asked(Method::GET, Version::HTTP_10);
    let (text, kept) = answer(with(Some("close"), StatusCode::OK), &new);
    assert!(text.unwrap().contains("connection: close") && !kept);
    let (text, kept) = answer(with(None, StatusCode::OK), &old);
    assert!(text.unwrap().contains("connection: keep-alive") && kept);
    let (text, _) = answer(with(Some("upgrade"), StatusCode::SWITCHING_PROTOCOLS), &new);
    assert!(text.unwrap().contains("connection: upgrade\r\n"));
}
