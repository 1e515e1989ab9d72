//! Heads as they should be read, and those that should not.

use super::*;
use proptest::prelude::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn parse_request(lines: &str) -> Result<Head<http::Request<()>>, Malformed> {
    let head = bytes(&format!("POST /a?b HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    request(&head).map(|head| head.unwrap())
}

fn parse_response(method: &Method, head: &str) -> Head<http::Response<()>> {
    response(&bytes(head), method).unwrap().unwrap()
}

#[test]
fn a_request_is_read() {
    let text = "\r\nGET http://h:1/p HTTP/1.0\r\nX-A: 1\r\nx-a: 2\r\n\r\nrest";
    let head = request(&bytes(text)).unwrap().unwrap();
    let message = head.message;
    assert_eq!(
        (message.method(), message.version()),
        (&Method::GET, Version::HTTP_10)
    );
    assert_eq!(message.uri(), "http://h:1/p");
    assert_eq!(message.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(&text[head.len..], "rest");
    assert!(head.decoder.is_over() && !head.keep_alive);
}

#[test]
fn a_request_has_one_framing() {
    let over = |lines| parse_request(lines).map(|head| head.decoder.is_over());
    assert_eq!(over(""), Ok(true));
    assert_eq!(over("content-length: 0\r\n"), Ok(true));
    assert_eq!(over("content-length: 4\r\n"), Ok(false));
    assert_eq!(over("transfer-encoding: Chunked\r\n"), Ok(false));
    for (lines, want) in [
        (
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            Malformed::BothFramings,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            Malformed::BothFramings,
        ),
        (
            "content-length: 4\r\ncontent-length: 4\r\n",
            Malformed::ManyLengths,
        ),
        ("content-length: 4, 4\r\n", Malformed::Length),
        ("content-length: +4\r\n", Malformed::Length),
        ("content-length: \r\n", Malformed::Length),
        (
            "content-length: 99999999999999999999\r\n",
            Malformed::Length,
        ),
        ("transfer-encoding: gzip, chunked\r\n", Malformed::Coding),
        ("transfer-encoding: chunked, gzip\r\n", Malformed::Coding),
        ("transfer-encoding: chunked, chunked\r\n", Malformed::Coding),
        ("transfer-encoding: identity\r\n", Malformed::Coding),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Malformed::Coding,
        ),
    ] {
        assert_eq!(over(lines), Err(want), "{lines:?}");
    }
    let old = bytes("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(request(&old).unwrap_err(), Malformed::CodingInHttp10);
}

#[test]
fn lines_that_parsers_read_differently_are_refused() {
    for lines in [
        "x: a\r\n b\r\n",
        "x: a\r\n\tb\r\n",
        "content-length : 4\r\n",
        "x: a\rcontent-length: 4\r\n",
        "x: \0\r\n",
        ": a\r\n",
    ] {
        assert!(
            matches!(parse_request(lines), Err(Malformed::Syntax(_))),
            "{lines:?}"
        );
    }
    let many = "x: 1\r\n".repeat(MAX_HEADERS);
    assert_eq!(parse_request(&many).unwrap_err(), Malformed::TooLarge);
    for line in [
        "GET <> HTTP/1.1",
        "GET / HTTP/2.0",
        "G T / HTTP/1.1",
        "GET /",
    ] {
        let head = bytes(&format!("{line}\r\nhost: a\r\n\r\n"));
        assert!(request(&head).is_err(), "{line}");
    }
}

#[test]
fn connections_persist_by_version_and_wish() {
    for (version, connection, want) in [
        ("1.1", "", true),
        ("1.1", "connection: x, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: keep-alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let head = bytes(&format!("GET / HTTP/{version}\r\n{connection}\r\n"));
        let head = request(&head).unwrap().unwrap();
        assert_eq!(head.keep_alive, want, "{version} {connection}");
    }
    assert!(
        parse_request("expect: 100-Continue\r\n")
            .unwrap()
            .expects_continue
    );
}

#[test]
fn an_answer_ends_where_its_request_and_status_say() {
    let (get, head, connect) = (Method::GET, Method::HEAD, Method::CONNECT);
    for (method, text, want) in [
        (&get, "200 OK\r\ncontent-length: 4", "Length(4)"),
        (
            &get,
            "200 OK\r\ncontent-length: 4\r\ncontent-length: 4",
            "Length(4)",
        ),
        (&get, "200 OK", "UntilEnd"),
        (&get, "204 No Content\r\ncontent-length: 4", "Length(0)"),
        (&get, "304 Not Modified\r\ncontent-length: 4", "Length(0)"),
        (&get, "101 Switching Protocols", "Length(0)"),
        (&head, "200 OK\r\ncontent-length: 4", "Length(0)"),
        (
            &connect,
            "200 OK\r\ntransfer-encoding: chunked",
            "Length(0)",
        ),
        (&connect, "404 Not Found\r\ncontent-length: 4", "Length(4)"),
    ] {
        let head = parse_response(method, &format!("HTTP/1.1 {text}\r\n\r\n"));
        assert_eq!(format!("{:?}", head.decoder), want, "{method} {text}");
        assert_eq!(head.keep_alive, want != "UntilEnd", "{method} {text}");
    }
}

#[test]
fn chunks_win_over_a_length_which_goes_no_further() {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
    let head = parse_response(&Method::GET, text);
    assert!(matches!(head.decoder, Decoder::Chunked(_)));
    assert!(!head.message.headers().contains_key(CONTENT_LENGTH));
    assert!(!head.keep_alive);
    let text = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(!parse_response(&Method::GET, text).keep_alive);
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for text in [
        "garbage\r\n\r\n",
        "HTTP/1.1 999999 no\r\n\r\n",
        "HTTP/1.1 099 low\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        assert!(response(&bytes(text), &Method::GET).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in "(GET|POST) [ -~]{0,20} HTTP/1\\.[01]\r\n([ -~]{0,30}\r\n){0,4}\r\n?.{0,9}") {
        let head = bytes(&text);
        let _ = request(&head);
        let _ = response(&head, &Method::GET);
    }
}

#[test]
fn a_part_of_a_head_is_no_head() {
    let text = "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 4\r\n\r\n";
    for cut in 0..text.len() {
        assert!(
            matches!(request(&bytes(&text[..cut])), Ok(None)),
            "{cut} bytes"
        );
    }
}
