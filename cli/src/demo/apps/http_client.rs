//! An HTTP/1.1 client that does what `http_proxy` asks: requests in absolute form, to the proxy.
//!
//! `traffic` and `web` call others with it. Connections are kept, within a bound; no redirects.

use super::variable;
use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_IDLE: usize = 64;
const MAX_ANSWER: usize = 64 * 1024;

/// Calls through the proxy, over connections that are kept.
pub(super) struct HttpClient {
    proxy: String,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

// === impl HttpClient ===

impl HttpClient {
    pub(super) fn from_env() -> anyhow::Result<Self> {
        let proxy = variable("http_proxy")?;
        let proxy = proxy
            .strip_prefix("http://")
            .context("http_proxy is no http:// address")?;
        Ok(Self {
            proxy: proxy.trim_end_matches('/').to_string(),
            idle: Mutex::default(),
        })
    }

    /// GETs a URL; the body as text.
    pub(super) async fn get(&self, url: &str) -> anyhow::Result<(StatusCode, String)> {
        timeout(DEADLINE, self.exchange(url))
            .await
            .context("no answer within 10s")?
    }

    async fn exchange(&self, url: &str) -> anyhow::Result<(StatusCode, String)> {
        let uri: Uri = url.parse()?;
        loop {
            let (mut connection, fresh) = self.connection().await?;
            let host = uri.authority().context("a URL needs a host")?.as_str();
            let request = Request::get(uri.clone()).header(header::HOST, host);
            let response = match connection.send_request(request.body(Empty::new())?).await {
                // It was closed while idle, before this request was written.
                Err(error) if error.is_canceled() && !fresh => continue,
                response => response?,
            };
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            let mut idle = self.idle.lock().await;
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
            return Ok((status, String::from_utf8_lossy(&body).into_owned()));
        }
    }

    /// A connection, and whether it is new.
    async fn connection(&self) -> anyhow::Result<(SendRequest<Empty<Bytes>>, bool)> {
        while let Some(mut kept) = self.idle.lock().await.pop() {
            if kept.ready().await.is_ok() {
                return Ok((kept, false));
            }
        }
        let stream = TcpStream::connect(&self.proxy).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok((sender, true))
    }
}
