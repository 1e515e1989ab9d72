//! Bytes over loopback sockets, between two of ours, and to tokio-rustls.

use super::*;
use crate::tls::testing::{Authority, Hands, peer, shake, sockets};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The two ends of a connection, client first.
async fn pair() -> (Stream, Stream) {
    let (hands, root) = (Hands::new(), Authority::new("root"));
    let credentials = |name| root.credentials(name, &root.roots(), &hands);
    let (connected, accepted) = shake(&credentials("web"), &credentials("api"), &peer("api")).await;
    (connected.unwrap().stream, accepted.unwrap().stream)
}

fn bytes(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test]
async fn bulk_arrives_whole_and_in_order_both_ways_at_once() {
    let (client, server) = pair().await;
    let sent = bytes(3_000_000);
    let carry = async |stream: Stream| {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut got = Vec::new();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, n) = tokio::join!(writing, read.read_to_end(&mut got));
        n.unwrap();
        assert!(got == sent);
    };
    tokio::join!(carry(client), carry(server));
}

#[tokio::test]
async fn one_side_may_end_while_the_other_goes_on() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = String::new();
    server.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "question");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    got.clear();
    client.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "answer");
}

#[tokio::test]
async fn an_end_that_is_not_announced_is_an_error() {
    let (mut client, mut server) = pair().await;
    // What the client has not read when it goes would make its end a reset.
    server.write_all(b"hello").await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
    client.write_all(b"half of it").await.unwrap();
    drop(client);
    let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (mut client, mut server) = pair().await;
    for _ in 0..2 {
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
    }
    for end in [client, server] {
        let held = [&end.incoming, &end.plain.bytes, &end.outgoing.bytes].map(Vec::capacity);
        assert_eq!(held, [0; 3]);
    }
}

#[tokio::test]
async fn a_reader_that_takes_little_has_little_kept_for_it() {
    let (mut client, mut server) = pair().await;
    let write = async {
        client.write_all(&bytes(1_000_000)).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let read = async {
        let mut got = Vec::new();
        while let Ok(byte) = server.read_u8().await {
            got.push(byte);
            assert!(server.plain.bytes.len() + server.incoming.len() <= 3 * MAX_RECORD);
        }
        assert!(got == bytes(1_000_000));
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn pieces_of_any_size_make_the_same_stream() {
    let (mut client, mut server) = pair().await;
    let sent = bytes(100_000);
    let write = async {
        for (n, piece) in sent.chunks(997).enumerate() {
            match n % 2 {
                0 => client.write_all(piece).await.unwrap(),
                _ => {
                    let (a, b) = piece.split_at(piece.len() / 3);
                    let bufs = [IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b)];
                    let n = client.write_vectored(&bufs).await.unwrap();
                    client.write_all(&piece[n..]).await.unwrap();
                }
            }
        }
        client.shutdown().await.unwrap();
    };
    let read = async {
        let (mut got, mut size) = (Vec::new(), 0);
        loop {
            size = size % 1_500 + 1;
            let mut buf = vec![0; size];
            match server.read(&mut buf).await.unwrap() {
                0 => break,
                n => got.extend_from_slice(&buf[..n]),
            }
        }
        assert!(got == sent);
    };
    tokio::join!(write, read);
}

/// What comes over `from` goes to `to` byte by byte.
async fn dribble(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).unwrap();
    while let Ok(byte) = from.read_u8().await {
        if to.write_u8(byte).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handshake_byte_by_byte_is_a_handshake() {
    let (hands, root) = (Hands::new(), Authority::new("root"));
    let credentials = |name| root.credentials(name, &root.roots(), &hands);
    let (near, far) = (sockets().await, sockets().await);
    let (web, api) = (credentials("web"), credentials("api"));
    let (name, server) = (peer("api"), far.0);
    // The way back is a connection of its own.
    let split = |s: TcpStream| {
        let std = s.into_std().unwrap();
        let twin = std.try_clone().unwrap();
        (
            TcpStream::from_std(std).unwrap(),
            TcpStream::from_std(twin).unwrap(),
        )
    };
    let ((a_read, a_write), (b_read, b_write)) = (split(near.1), split(server));
    tokio::spawn(dribble(a_read, b_write));
    tokio::spawn(dribble(b_read, a_write));
    let (connected, accepted) = tokio::join!(web.connect(near.0, &name, true), api.accept(far.1));
    assert!(connected.unwrap().transport_header);
    assert_eq!(accepted.unwrap().client_id.as_deref(), Some("web"));
}

#[tokio::test]
async fn a_handshake_that_ends_early_is_an_error_and_leaves_nothing() {
    let (hands, root) = (Hands::new(), Authority::new("root"));
    let api = root.credentials("api", &root.roots(), &hands);
    let (client, server) = sockets().await;
    drop(client);
    let Err(error) = api.accept(server).await else {
        panic!("nobody was there");
    };
    assert_eq!(error.reason(), "io");
}

#[tokio::test]
async fn tokio_rustls_is_understood() {
    let (hands, root) = (Hands::new(), Authority::new("root"));
    let api = root.credentials("api", &root.roots(), &hands);
    let (client, server) = sockets().await;
    let config = Arc::new(crate::tls::testing::stock_client(&root.roots(), &hands));
    let stock = async {
        let name = "api".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, client).await.unwrap();
        stream.write_all(&bytes(200_000)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert!(got == bytes(300_000));
    };
    let ours = async {
        let mut stream = api.accept(server).await.unwrap().stream;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert!(got == bytes(200_000));
        stream.write_all(&bytes(300_000)).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    tokio::join!(stock, ours);
}
