//! Which headers pass: hop-by-hop ones end here (RFC 9110, section 7.6.1), and Linkerd's own are
//! taken from nobody outside.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Whom a client has proved to be, told to the application.
pub const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
pub(super) const L5D_ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
/// Why the proxy answered in place of an endpoint.
pub(super) const L5D_PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// `close`: the proxy that sent this wants the connection ended.
pub(super) const L5D_PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");

/// Makes the headers of a request what the next hop may see: without hop-by-hop ones, and without
/// what only a proxy of ours may say. Whether it asks to switch protocols, in which case the two
/// headers that say so stay.
pub fn strip_request(version: Version, headers: &mut HeaderMap) -> bool {
    if !has_any_to_strip(headers) {
        return false;
    }
    headers.remove(L5D_CLIENT_ID);
    headers.remove(L5D_ORIG_PROTO);
    let upgrades = wants_upgrade(version, headers);
    strip_hop_by_hop(headers, upgrades);
    upgrades
}

/// Makes the headers of an answer what the client may see.
pub fn strip_response(headers: &mut HeaderMap, switches: bool) {
    if !has_any_to_strip(headers) {
        return;
    }
    headers.remove(L5D_PROXY_ERROR);
    headers.remove(L5D_PROXY_CONNECTION);
    strip_hop_by_hop(headers, switches);
}

/// Whether there is a header that may not pass. Most messages have none, and one look at each
/// name is cheaper than a look-up of each that is not there.
fn has_any_to_strip(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(HeaderName::as_str)
        .any(|name| match name.len() {
            2 => name == "te",
            7 => name == "upgrade",
            10 => name == "connection" || name == "keep-alive",
            16 if name == "proxy-connection" => true,
            13.. => name.starts_with("l5d-"),
            _ => false,
        })
}

/// `Transfer-Encoding` stays: whoever writes the message frames by it.
fn strip_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    if headers.contains_key(CONNECTION) {
        strip_named_by_connection(headers, keep_upgrade);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    if !keep_upgrade {
        headers.remove(UPGRADE);
    }
    // The one value that means something to HTTP/2 and gRPC.
    if headers.contains_key(TE) && !lists(headers, TE, "trailers") {
        headers.remove(TE);
    } else if headers.contains_key(TE) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn strip_named_by_connection(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        // Naming these would change what the message is or whom it is for.
        let keep = [HOST, TE, TRANSFER_ENCODING, CONTENT_LENGTH, UPGRADE].contains(&name);
        if !keep {
            headers.remove(name);
        }
    }
    if keep_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Leaves of trailers what may follow a message: not how long it was, for whom it was or what becomes
/// of the connection (RFC 9110, section 6.5.1), nor what only a proxy of ours may say.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    for name in [
        CONNECTION,
        CONTENT_LENGTH,
        HOST,
        KEEP_ALIVE,
        L5D_CLIENT_ID,
        L5D_ORIG_PROTO,
        L5D_PROXY_CONNECTION,
        L5D_PROXY_ERROR,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        trailers.remove(name);
    }
}

/// Whether a request asks for another protocol on its connection; HTTP/2 is none that could be
/// forwarded unseen, and the proxy speaks it anyway (RFC 9113, section 3.1).
fn wants_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && !lists(headers, UPGRADE, "h2c")
        && headers.contains_key(UPGRADE)
        && lists(headers, CONNECTION, "upgrade")
}

/// Whether the body is held back until the other side wants it (RFC 9110, section 10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT) && lists(headers, EXPECT, "100-continue")
}

/// Whether the content is gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// Whether a comma list holds `token`, in any case.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|item| {
        let item = item.split(';').next().unwrap_or_default();
        item.trim().eq_ignore_ascii_case(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let parse = |(k, v): &(&str, &str)| (k.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        headers.iter().map(parse).collect()
    }

    #[test]
    fn what_connection_names_ends_here() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        assert!(!strip_request(Version::HTTP_11, &mut headers));
        assert_eq!(headers, map(&[("te", "trailers"), ("x-kept", "1")]));
    }

    #[test]
    fn an_upgrade_keeps_its_headers() {
        let upgrade = ("upgrade", "websocket");
        let mut headers = map(&[("connection", "Upgrade, x-a"), upgrade, ("x-a", "")]);
        assert!(strip_request(Version::HTTP_11, &mut headers));
        assert_eq!(headers, map(&[("connection", "upgrade"), upgrade]));
    }

    #[test]
    fn connection_cannot_remove_what_frames_or_addresses_the_message() {
        let framing = [
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("content-length", "1"),
        ];
        let connection = ("connection", "host, transfer-encoding, content-length");
        let mut headers = map(&[connection, framing[0], framing[1], framing[2]]);
        strip_request(Version::HTTP_11, &mut headers);
        assert_eq!(headers, map(&framing));
    }

    #[test]
    fn nobody_upgrades_to_http_2_behind_our_back() {
        let mut headers = map(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ]);
        assert!(!strip_request(Version::HTTP_11, &mut headers));
        assert!(headers.is_empty());
    }

    #[test]
    fn trailers_say_nothing_of_the_message_or_the_connection() {
        let mut trailers = map(&[
            ("content-length", "1"),
            ("keep-alive", "5"),
            ("l5d-client-id", "me"),
            ("grpc-status", "0"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("grpc-status", "0")]));
    }

    #[test]
    fn http_1_0_cannot_upgrade() {
        let mut headers = map(&[("connection", "upgrade"), ("upgrade", "x")]);
        assert!(!strip_request(Version::HTTP_10, &mut headers));
        assert!(headers.is_empty());
    }

    #[test]
    fn what_only_our_proxies_say_is_taken_from_nobody() {
        let mut headers = map(&[("l5d-client-id", "me"), ("l5d-orig-proto", "HTTP/1.1")]);
        strip_request(Version::HTTP_2, &mut headers);
        assert!(headers.is_empty());
        let mut headers = map(&[("l5d-proxy-error", "x"), ("l5d-proxy-connection", "close")]);
        strip_response(&mut headers, false);
        assert!(headers.is_empty());
    }
}
