//! Heads of messages, written.

use super::Spelling;
use crate::http::headers::strip_trailers;
use http::{HeaderMap, Method, Request, Response, Version};

const CRLF: &[u8] = b"\r\n";

/// Writes the head of a request, its target in the form it has (RFC 9112, section 3.2).
pub(super) fn request<B>(out: &mut Vec<u8>, request: &Request<B>, spelling: &Spelling) {
    let uri = request.uri();
    let target = match uri.authority() {
        Some(authority) if request.method() == Method::CONNECT => authority.as_str(),
        _ => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    put(
        out,
        &[
            request.method().as_str().as_bytes(),
            b" ",
            target.as_bytes(),
            b" HTTP/1.1\r\n",
        ],
    );
    headers(out, request.headers(), spelling);
}

/// Writes the head of an answer to a client of `version`.
pub(super) fn response<B>(
    out: &mut Vec<u8>,
    response: &Response<B>,
    version: Version,
    spelling: &Spelling,
) {
    let status = response.status();
    let reason = spelling
        .reason()
        .or(status.canonical_reason().map(str::as_bytes));
    let protocol: &[u8] = match version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    };
    let reason = reason.unwrap_or_default();
    put(
        out,
        &[protocol, status.as_str().as_bytes(), b" ", reason, CRLF],
    );
    headers(out, response.headers(), spelling);
}

/// Writes header lines, and the empty line after them.
fn headers(out: &mut Vec<u8>, headers: &HeaderMap, spelling: &Spelling) {
    let mut names = spelling.names();
    for (name, value) in headers {
        let spelled = names.find(name).unwrap_or(name.as_str().as_bytes());
        put(out, &[spelled, b": ", value.as_bytes(), CRLF]);
    }
    out.extend_from_slice(CRLF);
}

/// Writes what is left of a body after its last chunk.
pub(super) fn trailers(out: &mut Vec<u8>, trailers: Option<HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    let mut trailers = trailers.unwrap_or_default();
    strip_trailers(&mut trailers);
    headers(out, &trailers, &Spelling::default());
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
