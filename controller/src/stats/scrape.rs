//! One page from one proxy, within two seconds and eight megabytes.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time};

const DEADLINE: Duration = Duration::from_secs(2);
const MAX_PAGE: usize = 8 * 1024 * 1024;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// What answers is not a proxy.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It answers with an error.
    #[error("status {0}")]
    Status(StatusCode),
    /// The page is too large, or the connection broke.
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The page is not text.
    #[error("not UTF-8")]
    Text,
    /// It took too long.
    #[error("no answer within 2 s")]
    Deadline,
}

/// The page at `/metrics`.
pub(super) async fn fetch(addr: SocketAddr) -> Result<String, ScrapeError> {
    let page = time::timeout(DEADLINE, exchange(addr)).await;
    page.unwrap_or(Err(ScrapeError::Deadline))
}

async fn exchange(addr: SocketAddr) -> Result<String, ScrapeError> {
    let socket = TcpStream::connect(addr)
        .await
        .map_err(ScrapeError::Connect)?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let page = async move {
        let request = Request::get("/metrics").header("host", addr.to_string());
        let request = request
            .header("connection", "close")
            .body(Empty::<Bytes>::new());
        // The parts are constant but for an address, which is a valid header.
        let request = request.map_err(|error| ScrapeError::Body(error.into()))?;
        let response = requests.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE).collect().await;
        let body = body.map_err(ScrapeError::Body)?.to_bytes();
        String::from_utf8(body.into()).map_err(|_| ScrapeError::Text)
    };
    // The connection has to be driven for the page to come, and ends when the page is there.
    let (page, _) = futures::future::join(page, connection).await;
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn answer(response: &'static str) -> Result<String, ScrapeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let server = async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let length = socket.read(&mut request).await.expect("a request");
            assert!(request[..length].starts_with(b"GET /metrics HTTP/1.1\r\n"));
            socket
                .write_all(response.as_bytes())
                .await
                .expect("written");
        };
        futures::future::join(fetch(addr), server).await.0
    }

    #[tokio::test]
    async fn pages_and_refusals() {
        let page = answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na 1\n").await;
        assert_eq!(page.expect("a page"), "a 1\n");
        let refused = answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(refused, Err(ScrapeError::Status(status)) if status == 503));
        let rubbish = answer("rubbish\r\n\r\n").await;
        assert!(matches!(rubbish, Err(ScrapeError::Http(_))), "{rubbish:?}");
        let cut = answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1\n").await;
        assert!(matches!(cut, Err(ScrapeError::Body(_))), "{cut:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        assert!(matches!(fetch(addr).await, Err(ScrapeError::Deadline)));
    }
}
