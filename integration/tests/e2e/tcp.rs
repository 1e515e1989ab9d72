//! Opaque TCP through both directions.

use crate::rig::{Both, SOON, WEB};
use integration::{
    control::{
        ControlPlane,
        proto::{self, Policy},
    },
    eventually, proxy,
    tcp::{Raw, Server},
};
use rand::RngExt;
use std::{io, time::Duration};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_still_carries_the_other_half() {
    let server = Server::start(|mut stream| async move {
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all).await?;
        stream
            .write_all(format!("{} bytes\n", all.len()).as_bytes())
            .await
    })
    .await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send("\x01some bytes").await;
        raw.finish_sending().await;
        raw.expect("11 bytes\n").await;
        raw.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_finishes_first_still_reads() {
    let (heard, mut was_heard) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            stream.write_all(b"bye").await?;
            stream.shutdown().await?;
            let mut all = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut all).await?;
            heard.send(all).map_err(io::Error::other)
        }
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send("\x01first ").await;
        raw.expect("bye").await;
        raw.expect_end().await;
        raw.send("last").await;
        raw.finish_sending().await;
        let all = eventually::within("all bytes", SOON, was_heard.recv()).await;
        assert_eq!(all.as_deref(), Some("\x01first last"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_carried_over_as_a_reset() {
    let server = Server::start(|mut stream| async move {
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0]).await?;
        // Closing with a linger of zero sends RST.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send("\x01").await;
        let mut buffer = [0; 8];
        let read = tokio::io::AsyncReadExt::read(raw.stream(), &mut buffer);
        let read = eventually::within("the end", SOON, read).await;
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::ConnectionReset), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_lost_or_reordered() {
    const SIZE: usize = 8 << 20;
    let server = Server::echo().await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut rng = rand::rng();
        let mut sent: Vec<u8> = (0..SIZE).map(|_| rng.random()).collect();
        // Neither HTTP nor TLS.
        sent[0] = 1;
        let sizes: Vec<usize> = (0..20_000).map(|_| rng.random_range(1..5000)).collect();
        let (mut read, mut write) = Raw::connect(addr).await.into_stream().into_split();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            let mut at = 0;
            for size in sizes {
                let end = (at + size).min(SIZE);
                write.write_all(&sent[at..end]).await?;
                at = end;
            }
            write.write_all(&sent[at..]).await?;
            write.shutdown().await
        });
        let mut got = Vec::with_capacity(SIZE);
        let all = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut got);
        eventually::within("everything", SOON * 4, all)
            .await
            .expect("an orderly end");
        writer.await.expect("no panic").expect("all was taken");
        assert!(
            got == expected,
            "{path}: {} bytes differ from what was sent",
            got.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_on_an_opaque_port_is_heard_at_once() {
    let server = Server::greeting("220 ready\r\n").await;
    let control = ControlPlane::start();
    control.policy(WEB, &Policy::new(WEB).opaque());
    control.endpoints(WEB, &[server.addr()]);
    control.inbound(3306, proto::opaque_port());
    let proxy = proxy::with(&control)
        .outbound(8080, WEB)
        .inbound(3306, server.addr())
        .start();
    for addr in [proxy.port(8080), proxy.port(3306)] {
        let mut raw = Raw::connect(addr).await;
        eventually::within(
            "the greeting",
            Duration::from_secs(1),
            raw.expect("220 ready\r\n"),
        )
        .await;
        raw.send("HELO\r\n").await;
        raw.expect("HELO\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_elsewhere_does_not_stall() {
    let server = Server::greeting("220 ready\r\n").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        // The deadline of detection is ten seconds.
        eventually::within(
            "the greeting",
            Duration::from_secs(3),
            raw.expect("220 ready\r\n"),
        )
        .await;
        raw.send("HELO\r\n").await;
        raw.expect("HELO\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_balanced_over_endpoints() {
    let servers = [Server::echo().await, Server::echo().await];
    let control = ControlPlane::start();
    control.policy(WEB, &Policy::new(WEB).opaque());
    control.endpoints(WEB, &servers.each_ref().map(Server::addr));
    let proxy = proxy::with(&control).outbound(8080, WEB).start();
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut raw = Raw::connect(proxy.port(8080)).await;
        raw.send("x").await;
        raw.expect("x").await;
        held.push(raw);
    }
    for server in &servers {
        assert!(
            server.accepted() >= 8,
            "of 40 connections: {}",
            server.accepted()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_to_another_endpoint_when_one_refuses() {
    let server = Server::echo().await;
    let control = ControlPlane::start();
    control.policy(WEB, &Policy::new(WEB).opaque());
    control.endpoints(WEB, &[server.addr(), integration::tcp::refusing()]);
    let proxy = proxy::with(&control).outbound(8080, WEB).start();
    for _ in 0..20 {
        let mut raw = Raw::connect(proxy.port(8080)).await;
        raw.send("x").await;
        raw.expect("x").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_no_endpoint_takes_is_closed() {
    let control = ControlPlane::start();
    control.policy(
        WEB,
        &Policy::new(WEB)
            .opaque()
            .queue(10, Duration::from_millis(500)),
    );
    control.endpoints(WEB, &[integration::tcp::refusing()]);
    let refusing = integration::tcp::refusing();
    let proxy = proxy::with(&control)
        .outbound(8080, WEB)
        .inbound(8081, refusing)
        .start();
    for addr in [proxy.port(8080), proxy.port(8081)] {
        let mut raw = Raw::connect(addr).await;
        let _ = raw.try_send("\x01").await;
        eventually::within("the end", SOON, raw.expect_end()).await;
    }
}
