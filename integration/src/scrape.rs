//! Just enough HTTP to ask an admin server, and its metrics as values.
//!
//! Blocking on purpose: what is asked runs in another process, and the question takes well under a
//! millisecond.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer of an admin server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    /// Body, without the framing.
    pub body: String,
}

/// `GET path`.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    ask(addr, "GET", path, "")
}

/// One request on a connection of its own.
pub fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while !is_whole(&bytes) {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..n]);
    }
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

/// Whether `bytes` are a head and as much body as it announces; without a length only the end of
/// the connection tells.
fn is_whole(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else {
        return false;
    };
    let is_length = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(is_length).map(|h| h.value);
    let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= head + length)
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        dechunk(body)?
    } else {
        body.to_owned()
    };
    Some(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

fn dechunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}

/// One page of `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series, with `_bucket` and the like.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Scrapes `addr`.
    pub fn scrape(addr: SocketAddr) -> io::Result<Self> {
        let answer = get(addr, "/metrics")?;
        if answer.status != 200 {
            return Err(io::Error::other(format!(
                "/metrics answered {}",
                answer.status
            )));
        }
        Ok(Self::parse(answer.body))
    }

    /// Reads the text exposition format.
    pub fn parse(text: String) -> Self {
        let samples = text.lines().filter_map(parse_sample).collect();
        Self { samples, text }
    }

    /// The page as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Samples of `name` that have all of `labels`.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |s: &Sample, (k, v): &(&str, &str)| s.labels.get(*k).is_some_and(|x| x == v);
        self.samples
            .iter()
            .filter(|s| s.name == name && labels.iter().all(|label| has(s, label)))
            .collect()
    }

    /// Sum over [`find`](Self::find); 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .iter()
            .map(|sample| sample.value)
            .sum()
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (series, value) = match line.rfind('}') {
        Some(end) => (&line[..end], line[end + 1..].trim()),
        None => line.split_once(' ')?,
    };
    let value = value.split(' ').next()?.parse().ok()?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample {
        name: name.to_owned(),
        labels: parse_labels(labels)?,
        value,
    })
}

fn parse_labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim_start_matches([',', ' ']).to_owned(), value);
        rest = &after[end + 1..];
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_samples_by_labels() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"q\\\"}\"} 2\na{x=\"2\"} 3.5\nb 4\n";
        let metrics = Metrics::parse(page.to_owned());
        assert_eq!(metrics.sum("a", &[]), 5.5);
        assert_eq!(metrics.sum("a", &[("x", "1"), ("y", "q\"}")]), 2.0);
        assert_eq!(metrics.sum("b", &[]), 4.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
    }

    #[test]
    fn reads_chunked_answers() {
        let text =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(text).expect("valid").body, "abc");
    }
}
