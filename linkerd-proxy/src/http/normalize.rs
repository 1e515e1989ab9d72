//! Requests and answers as the next hop gets them: form of the target (RFC 9112, section 3.2),
//! `Host`, version, and which headers pass.

use super::{Request, headers};
use crate::{addr::Target, error::Error};
use http::{
    HeaderValue, Method, Uri, Version,
    header::{HOST, HeaderName},
    uri::{Authority, PathAndQuery, Scheme},
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

/// Makes a request what the next hop expects; one that does not say for whom it is, is for `target`.
/// When it asks to switch protocols the headers that say so stay.
///
/// # Errors
///
/// [`Error::BadRequest`] when it is ambiguous for whom it is.
pub fn request(request: &mut Request, target: &Target) -> Result<(), Error> {
    let version = request.version();
    check_host(request)?;
    headers::strip_request(version, request.headers_mut());
    if version == Version::HTTP_2 {
        if request.uri().authority().is_none() {
            return add_authority(request, target);
        }
        // It says the same again, or something else, by which nobody must go (RFC 9113, section 8.3.1).
        request.headers_mut().remove(HOST);
        return Ok(());
    }
    if request.method() != Method::CONNECT {
        to_origin_form(request);
    }
    if version == Version::HTTP_10 {
        // It need not have one, but leaves as HTTP/1.1, which has to.
        let asked = request.uri().authority();
        let asked = asked.and_then(|a| HeaderValue::from_str(without_userinfo(a.as_str())).ok());
        let host = request.headers_mut().entry(HOST);
        host.or_insert_with(|| asked.unwrap_or_else(|| host_of(target)));
    }
    // The version is each hop's own (RFC 9110, section 6.2).
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// `:authority` may be missing where there is a `Host`, and where both are missing (RFC 9113, section
/// 8.3.1). A proxy has to say it when it knows it.
fn add_authority(request: &mut Request, target: &Target) -> Result<(), Error> {
    let host = request.headers_mut().remove(HOST);
    let host = host.unwrap_or_else(|| host_of(target));
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Authority::try_from(host.as_bytes()).ok();
    uri.path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    let uri = Uri::from_parts(uri).map_err(|_| Error::BadRequest("Host is no host"));
    *request.uri_mut() = uri?;
    Ok(())
}

/// A target as `Host` names it.
fn host_of(target: &Target) -> HeaderValue {
    let text = target.to_string();
    let without_port = text
        .strip_suffix(":80")
        .filter(|_| target.port() == HTTP_PORT);
    // Names and addresses consist of what headers may hold.
    HeaderValue::from_str(without_port.unwrap_or(&text)).unwrap_or(HeaderValue::from_static(""))
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
    let path = match is_for_the_server(request) {
        true => PathAndQuery::from_static("*"),
        false => origin_form(uri.path_and_query()),
    };
    *request.uri_mut() = Uri::from(path);
    if let Ok(host) = host {
        request.headers_mut().insert::<HeaderName>(HOST, host);
    }
}

/// Whether it is `OPTIONS` of a target that has no path, not even an empty one before a query: that means the
/// server as a whole (RFC 9112, section 3.2.4). As a [`Uri`] such a path is `/`.
fn is_for_the_server(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.body().spelling().target().is_some_and(|target| {
            let authority = target.splitn(3, |b| *b == b'/').nth(2).unwrap_or(target);
            !authority.iter().any(|b| matches!(b, b'/' | b'?'))
        })
}

/// The path of an absolute-form target, which may be missing before a query (RFC 9112, section 3.2.1).
fn origin_form(path: Option<&PathAndQuery>) -> PathAndQuery {
    let root = PathAndQuery::from_static("/");
    match path {
        Some(path) if path.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", path.as_str())).unwrap_or(root)
        }
        Some(path) => path.clone(),
        None => root,
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
    use crate::http::{Upload, http1};

    fn normalized(request: http::request::Builder, target: &str) -> Result<Request, Error> {
        let mut made = request.body(Upload::default()).unwrap();
        super::request(&mut made, &Target::parse(target).unwrap())?;
        Ok(made)
    }

    #[test]
    fn absolute_targets_become_what_the_origin_expects() {
        for (method, target, want) in [
            ("GET", "http://me", "/"),
            ("GET", "http://me/", "/"),
            ("GET", "http://me?q", "/?q"),
            ("GET", "http://me/a?q", "/a?q"),
            ("OPTIONS", "http://me", "*"),
            ("OPTIONS", "http://me:80", "*"),
            ("OPTIONS", "http://me/", "/"),
            ("OPTIONS", "http://me?q", "/?q"),
            ("OPTIONS", "*", "*"),
        ] {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: other\r\n\r\n");
            let head = http1::request(&head.into()).unwrap().unwrap();
            let mut made = head.message.map(|()| Upload::http1(None, head.spelling));
            super::request(&mut made, &Target::parse("web:80").unwrap()).unwrap();
            let host = if target == "*" { "other" } else { "me" };
            assert_eq!(made.uri(), want, "{method} {target}");
            assert!(made.headers()[HOST].to_str().unwrap().starts_with(host));
        }
    }

    #[test]
    fn what_does_not_say_for_whom_it_is_is_for_the_target() {
        for (target, want) in [
            ("web.demo:80", "web.demo"),
            ("web.demo:8080", "web.demo:8080"),
            ("[::1]:80", "[::1]"),
        ] {
            let old = http::Request::get("/a").version(Version::HTTP_10);
            let old = normalized(old, target).unwrap();
            assert_eq!(old.headers()[HOST], want);
            let new = http::Request::get("/a").version(Version::HTTP_2);
            let new = normalized(new, target).unwrap();
            assert_eq!(new.uri().to_string(), format!("http://{want}/a"));
        }
    }

    #[test]
    fn what_says_for_whom_it_is_is_for_them() {
        let old = http::Request::get("/a").version(Version::HTTP_10);
        let old = normalized(old.header(HOST, "me"), "web:80").unwrap();
        assert_eq!(old.headers()[HOST], "me");
        let new = http::Request::get("/a").version(Version::HTTP_2);
        let new = normalized(new.header(HOST, "me"), "web:80").unwrap();
        assert_eq!(*new.uri(), "http://me/a");
        assert!(!new.headers().contains_key(HOST));
        let both = http::Request::get("http://me/a").version(Version::HTTP_2);
        let both = normalized(both.header(HOST, "other"), "web:80").unwrap();
        assert_eq!(*both.uri(), "http://me/a");
        assert!(!both.headers().contains_key(HOST), "there is one authority");
        let tunnel = http::Request::connect("me:443").version(Version::HTTP_10);
        let tunnel = normalized(tunnel, "web:80").unwrap();
        assert_eq!(tunnel.headers()[HOST], "me:443");
        let empty = http::Request::get("/a").version(Version::HTTP_2);
        assert!(normalized(empty.header(HOST, ""), "web:80").is_err());
        let missing = http::Request::get("/a").version(Version::HTTP_11);
        assert!(normalized(missing, "web:80").is_err());
    }

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
