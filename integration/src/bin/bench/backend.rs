//! The server behind the proxies: as little work per request as possible.
//!
//! Four ports on each address: HTTP/1.1 by hand, HTTP/2 on `h2`, TCP echo, TCP source.

use crate::scenario::Port;
use anyhow::{Context, Result};
use bytes::Bytes;
use std::{io, net::Ipv4Addr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Body of every HTTP answer.
const BODY: &[u8; 128] = &[b'x'; 128];
const CHUNK: usize = 64 << 10;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Addresses to listen on
    #[arg(long, value_delimiter = ',')]
    ips: Vec<Ipv4Addr>,
}

/// Serves until it is killed.
pub(crate) fn run(args: Args) -> Result<()> {
    crate::runtime()?.block_on(async {
        for ip in args.ips {
            for port in Port::ALL {
                let listener = TcpListener::bind((ip, port as u16))
                    .await
                    .with_context(|| format!("cannot listen on {ip}:{}", port as u16))?;
                tokio::spawn(accept(listener, port));
            }
        }
        println!("ready");
        std::future::pending().await
    })
}

async fn accept(listener: TcpListener, port: Port) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // A client that goes away in the middle is how every run ends.
            let _ = match port {
                Port::Http1 => http1(stream).await,
                Port::Http2 => http2(stream).await.map_err(io::Error::other),
                Port::Echo => echo(stream).await,
                Port::Bulk => bulk(stream).await,
            };
        });
    }
}

/// Requests without a body, pipelined or not.
async fn http1(mut stream: TcpStream) -> io::Result<()> {
    let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY.len());
    response.push_str(&String::from_utf8_lossy(BODY));
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            stream.write_all(response.as_bytes()).await?;
        }
    }
    Ok(())
}

async fn http2(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .initial_connection_window_size(1 << 20)
        .max_concurrent_streams(1000)
        .handshake(stream)
        .await?;
    let body = Bytes::from_static(BODY);
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let mut stream = respond.send_response(http::Response::new(()), false)?;
        stream.send_data(body.clone(), true)?;
    }
    Ok(())
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

/// The client says how many bytes it wants, again and again.
async fn bulk(mut stream: TcpStream) -> io::Result<()> {
    let chunk = vec![7; CHUNK];
    loop {
        let mut left = stream.read_u64().await? as usize;
        while left > 0 {
            let n = left.min(CHUNK);
            stream.write_all(&chunk[..n]).await?;
            left -= n;
        }
    }
}
