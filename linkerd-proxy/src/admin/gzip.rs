//! Answers made smaller for clients that ask for it: a page of metrics shrinks to a tenth.

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, header::ACCEPT_ENCODING};
use std::io::Write;

/// Whether the client has listed `gzip`, and not to say that it does not want it
/// (RFC 9110, section 12.5.3).
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !is_zero(weight)
    })
}

/// `q=0`, `q=0.0` and so on.
fn is_zero(weight: &str) -> bool {
    let q = weight.trim().trim_start_matches(['q', 'Q', '=', ' ']);
    q.parse().is_ok_and(|q: f32| q == 0.0)
}

/// Fast rather than small: the thread has other things to do.
pub(super) fn compress(body: &[u8]) -> Vec<u8> {
    let room = Vec::with_capacity(body.len() / 8);
    let mut encoder = GzEncoder::new(room, Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn gzip_is_sent_to_those_who_list_it() {
        for (values, want) in [
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=0.5"], true),
            (&["deflate", "br, gzip"], true),
            (&[], false),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, identity"], false),
            (&["xgzip"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(is_accepted(&headers), want, "{values:?}");
        }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let page = "request_total{direction=\"outbound\"} 1\n".repeat(1_000);
        let small = compress(page.as_bytes());
        assert!(small.len() < page.len() / 10, "{} bytes", small.len());
        let mut back = String::new();
        GzDecoder::new(&small[..])
            .read_to_string(&mut back)
            .unwrap();
        assert_eq!(back, page);
    }
}
