//! Requests and answers as the next hop gets them: form of the target (RFC 9112, section 3.2),
//! `Host`, version, and which headers pass.

use super::{Request, headers};
use crate::{addr::Target, error::Error};
use http::{
    HeaderValue, Method, Uri, Version,
    header::{HOST, HeaderName},
    uri::{Authority, PathAndQuery},
};

/// Port of a target that names none.
const HTTP_PORT: u16 = 80;

/// Where a request to the forward proxy goes: its absolute-form target, or else its `Host`.
///
/// # Errors
///
/// [`Error::BadRequest`] when nothing says so.
pub fn proxied_target(request: &Request) -> Result<Target, Error> {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok()?.parse().ok());
    let authority: Option<Authority> = request.uri().authority().cloned().or(host);
    let target = authority.and_then(|a| Target::from_authority(&a, HTTP_PORT));
    target.ok_or(Error::BadRequest(
        "neither the target nor Host says where it goes",
    ))
}

/// Makes a request what the next hop expects. When it asks to switch protocols the headers that say
/// so stay.
///
/// # Errors
///
/// [`Error::BadRequest`] when it is ambiguous for whom it is.
pub fn request(request: &mut Request) -> Result<(), Error> {
    let version = request.version();
    if version == Version::HTTP_2 {
        headers::strip_request(version, request.headers_mut());
        return Ok(());
    }
    check_host(request)?;
    headers::strip_request(version, request.headers_mut());
    if request.method() != Method::CONNECT {
        to_origin_form(request);
    }
    // The version is each hop's own (RFC 9110, section 6.2).
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// HTTP/1.1 has exactly one `Host`, and a valid one (RFC 9112, section 3.2).
fn check_host(request: &Request) -> Result<(), Error> {
    let mut hosts = request.headers().get_all(HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Error::BadRequest("more than one Host")),
        (None, None) if request.version() == Version::HTTP_11 => Err(Error::BadRequest("no Host")),
        (Some(host), None) if !is_valid_host(host) => Err(Error::BadRequest("Host is no host")),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2), by its characters; empty when the target has no
/// authority. Names with user information, paths or white space are not hosts.
fn is_valid_host(host: &HeaderValue) -> bool {
    host.as_bytes()
        .iter()
        .all(|b| IS_HOST_BYTE[usize::from(*b)])
}

const IS_HOST_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let allowed =
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+,;=:[]";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};

/// `http://host/path` becomes `/path` with `Host: host`, which wins over the one that was there.
fn to_origin_form(request: &mut Request) {
    let uri = request.uri();
    let Some(authority) = uri.authority() else {
        return;
    };
    let host = HeaderValue::from_str(without_userinfo(authority.as_str()));
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    if let Ok(host) = host {
        request.headers_mut().insert::<HeaderName>(HOST, host);
    }
}

fn without_userinfo(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for (host, want) in [
            ("example.org:80", true),
            ("[::1]:80", true),
            ("", true),
            ("a b", false),
            ("user@host", false),
            ("host/path", false),
        ] {
            assert_eq!(
                is_valid_host(&HeaderValue::from_static(host)),
                want,
                "{host:?}"
            );
        }
    }
}
