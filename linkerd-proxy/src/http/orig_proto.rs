//! HTTP/1 carried over HTTP/2 between two sidecars, so that neither application can tell: what it
//! was is said by `l5d-orig-proto` (Linkerd's header, of requests and of answers). Only the case of
//! header names is lost, as between Linkerd's proxies.
//!
//! The outbound client calls [`carry`] and undoes it, on the request when that was not sent, and on
//! the answer; the inbound path calls [`uncarry_if_carried`] and marks the answer. Whether to carry
//! at all is the client's to know.

use super::{Request, Response, headers::L5D_ORIG_PROTO};
use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{EXPECT, HOST, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

const HTTP_1_1: HeaderValue = HeaderValue::from_static("HTTP/1.1");

/// Whether a request may be carried: not one that takes its connection over, and only one that
/// says whom it is for.
pub fn can_be_carried(request: &Request) -> bool {
    request.version() == Version::HTTP_11
        && request.method() != Method::CONNECT
        && !request.headers().contains_key(UPGRADE)
        // Whether the body is wanted is said on HTTP/1 only.
        && !request.headers().contains_key(EXPECT)
        && request.uri().path().starts_with('/')
        && authority(request.headers()).is_some()
}

/// Makes an HTTP/1.1 request one for HTTP/2.
pub fn carry(request: &mut Request) {
    let Some(authority) = authority(request.headers()) else {
        return;
    };
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    uri.path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    // All three parts are there and valid.
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
    headers.insert(L5D_ORIG_PROTO, HTTP_1_1);
}

/// Makes a request that was carried an HTTP/1.1 one again.
pub fn uncarry(request: &mut Request) {
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(L5D_ORIG_PROTO);
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let host = uri.authority.map(|authority| {
        let without_userinfo = authority.as_str().rsplit('@').next().unwrap_or_default();
        HeaderValue::from_str(without_userinfo)
    });
    if let Some(Ok(host)) = host {
        request.headers_mut().insert(HOST, host);
    }
    let path = uri.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
}

/// Whether a request is an HTTP/2 one that says that it carries an HTTP/1 one.
pub fn is_carried<B>(request: &http::Request<B>) -> bool {
    let said = request.headers().get(L5D_ORIG_PROTO);
    request.version() == Version::HTTP_2
        && said.is_some_and(|proto| proto.as_bytes().starts_with(b"HTTP/1."))
}

/// Makes an HTTP/2 request that carries an HTTP/1 one what it was; whether it did.
pub fn uncarry_if_carried(request: &mut Request) -> bool {
    let is_carried = is_carried(request);
    if is_carried {
        uncarry(request);
    }
    is_carried
}

/// Says of an answer that it is one to a request that was carried.
pub fn carry_response(response: &mut Response) {
    response.headers_mut().insert(L5D_ORIG_PROTO, HTTP_1_1);
}

/// Makes the answer to a request that was carried an HTTP/1.1 one again.
pub fn uncarry_response<B>(response: &mut http::Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    response.headers_mut().remove(L5D_ORIG_PROTO);
}

/// Whom a request is for, by its `Host`.
fn authority(headers: &HeaderMap) -> Option<Authority> {
    Authority::try_from(headers.get(HOST)?.as_bytes()).ok()
}
