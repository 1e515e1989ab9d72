//! Heads of messages, read. Pure: bytes in; a message, or why it is none.

use super::{Decoder, MAX_HEADERS, Malformed, Spelling};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
};
use httparse::{Header, Status};
use std::mem::MaybeUninit;

/// A head, and what it says of the message and the connection it came over.
#[derive(Debug)]
pub struct Head<M> {
    /// The message, without its body.
    pub message: M,
    /// What the body is framed by.
    pub decoder: Decoder,
    /// Whether the connection can carry another message after this one (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the body is held back until `100 Continue` (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    /// How header names were spelled.
    pub spelling: Spelling,
    /// Bytes that it took.
    pub len: usize,
}

/// Reads the head of a request at the start of `bytes`; nothing if it is not whole.
///
/// # Errors
///
/// [`Malformed`], as soon as it shows.
pub fn request(bytes: &Bytes) -> Result<Option<Head<http::Request<()>>>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let Status::Complete(len) = parsed.parse_with_uninit_headers(bytes, &mut lines)? else {
        return Ok(None);
    };
    let fields = Fields::of(bytes, parsed.headers, false)?;
    let version = version(parsed.version);
    let decoder = match (fields.is_chunked, fields.length) {
        (true, Some(_)) => return Err(Malformed::BothFramings),
        (true, None) if version == Version::HTTP_10 => return Err(Malformed::CodingInHttp10),
        (true, None) => Decoder::chunked(),
        (false, length) => Decoder::Length(length.unwrap_or(0)),
    };
    let mut message = http::Request::new(());
    let method = parsed.method.unwrap_or_default();
    let path = parsed.path.unwrap_or_default();
    *message.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Target)?;
    *message.uri_mut() =
        Uri::from_maybe_shared(bytes.slice_ref(path.as_bytes())).map_err(|_| Malformed::Target)?;
    *message.version_mut() = version;
    let keep_alive = fields.keep_alive(version);
    *message.headers_mut() = fields.headers;
    Ok(Some(Head {
        keep_alive,
        expects_continue: fields.expects_continue && version == Version::HTTP_11,
        decoder,
        spelling: Spelling::new(bytes.slice(..len)),
        message,
        len,
    }))
}

/// Reads the head of the answer to a request by `method` at the start of `bytes`; nothing if it is
/// not whole.
///
/// # Errors
///
/// [`Malformed`], as soon as it shows.
pub fn response(
    bytes: &Bytes,
    method: &Method,
) -> Result<Option<Head<http::Response<()>>>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let status = parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines)?;
    let Status::Complete(len) = status else {
        return Ok(None);
    };
    let mut fields = Fields::of(bytes, parsed.headers, true)?;
    let version = version(parsed.version);
    let status = StatusCode::from_u16(parsed.code.unwrap_or(0))
        .map_err(|_| Malformed::Syntax(httparse::Error::Status))?;
    let decoder = match (fields.is_chunked, fields.length) {
        _ if has_no_body(method, status) => Decoder::Length(0),
        (true, _) => {
            // Whoever is next must not be left to choose (RFC 9112, section 6.3).
            fields.headers.remove(CONTENT_LENGTH);
            Decoder::chunked()
        }
        (false, Some(length)) => Decoder::Length(length),
        (false, None) => Decoder::UntilEnd,
    };
    let mut message = http::Response::new(());
    *message.status_mut() = status;
    *message.version_mut() = version;
    // Framing that is doubtful is good for one message (RFC 9112, sections 6.1 and 6.3).
    let is_doubtful = fields.is_chunked && (version == Version::HTTP_10 || fields.length.is_some());
    let ends_with_connection = matches!(decoder, Decoder::UntilEnd);
    let keep_alive = fields.keep_alive(version) && !is_doubtful && !ends_with_connection;
    *message.headers_mut() = fields.headers;
    Ok(Some(Head {
        keep_alive,
        expects_continue: false,
        decoder,
        spelling: Spelling::new(bytes.slice(..len)),
        message,
        len,
    }))
}

/// Whether an answer ends with its head, whatever its headers say (RFC 9112, section 6.3).
pub(super) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (method == Method::CONNECT && status.is_success())
}

fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

/// Header lines, and what some of them say.
struct Fields {
    headers: HeaderMap,
    length: Option<u64>,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    /// Reads the lines. An answer may repeat its length, as long as it stays the same one.
    fn of(bytes: &Bytes, lines: &[Header<'_>], may_repeat_length: bool) -> Result<Self, Malformed> {
        let mut fields = Self {
            headers: HeaderMap::with_capacity(lines.len() + 2),
            length: None,
            is_chunked: false,
            says_close: false,
            says_keep_alive: false,
            expects_continue: false,
        };
        for line in lines {
            let name = HeaderName::from_bytes(line.name.as_bytes())
                .map_err(|_| Malformed::Syntax(httparse::Error::HeaderName))?;
            if name == CONTENT_LENGTH {
                let length = length(line.value)?;
                match fields.length.replace(length) {
                    None => {}
                    Some(same) if may_repeat_length && same == length => continue,
                    Some(_) => return Err(Malformed::ManyLengths),
                }
            } else if name == TRANSFER_ENCODING {
                // Once, and alone: of another coding only its end would be undone (RFC 9112, 6.1).
                if fields.is_chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::Coding);
                }
                fields.is_chunked = true;
            } else if name == CONNECTION {
                fields.says_close |= lists(line.value, b"close");
                fields.says_keep_alive |= lists(line.value, b"keep-alive");
            } else if name == EXPECT {
                fields.expects_continue |= lists(line.value, b"100-continue");
            }
            // Checked again: only the parser knows that it did, and `unsafe` is not for us.
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
                .map_err(|_| Malformed::Syntax(httparse::Error::HeaderValue))?;
            fields.headers.append(name, value);
        }
        Ok(fields)
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.says_close && (version == Version::HTTP_11 || self.says_keep_alive)
    }
}

/// `1*DIGIT` (RFC 9110, section 8.6).
fn length(value: &[u8]) -> Result<u64, Malformed> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok())
        .ok_or(Malformed::Length)
}

/// Whether a comma list holds `token`, in any case.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|b| *b == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

impl From<httparse::Error> for Malformed {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            error => Self::Syntax(error),
        }
    }
}

#[cfg(test)]
mod tests;
