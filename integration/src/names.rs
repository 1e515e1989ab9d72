//! A name server whose answers the test holds, and a sidecar that asks it.
//!
//! The sidecar reads `/etc/resolv.conf` as any program does, so it is started where another file
//! stands in its place: that takes root and `unshare`.

use crate::{addr, bins};
use parking_lot::Mutex;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, task::JoinHandle};

/// Seconds that answers hold; the sidecar keeps them for five at least.
const TTL: u32 = 1;

/// Knows the addresses of every name it is asked for. Dropping it ends it.
pub struct NameServer {
    addrs: Arc<Mutex<Vec<Ipv4Addr>>>,
    files: TempDir,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Answers with `addrs`.
    ///
    /// # Errors
    ///
    /// Why that cannot be done on this machine.
    pub async fn start(addrs: &[Ipv4Addr]) -> io::Result<Self> {
        let unshared = Command::new("unshare").args(["--mount", "true"]).output()?;
        if !unshared.status.success() {
            return Err(io::Error::other("`unshare --mount` is not allowed"));
        }
        let at = addr::unique(53);
        let socket = UdpSocket::bind(at).await?;
        let files = tempfile::tempdir()?;
        let resolv_conf = files.path().join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {}\n", at.ip()))?;
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$0\" /etc/resolv.conf && \
             exec \"$1\"' '{}' '{}'\n",
            resolv_conf.display(),
            bins::linkerd_proxy().display(),
        );
        let binary = files.path().join("linkerd-proxy");
        std::fs::write(&binary, script)?;
        std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755))?;
        let addrs = Arc::new(Mutex::new(addrs.to_vec()));
        let task = tokio::spawn(serve(socket, addrs.clone()));
        Ok(Self { addrs, files, task })
    }

    /// What starts a sidecar that asks here.
    pub fn binary(&self) -> PathBuf {
        self.files.path().join("linkerd-proxy")
    }

    /// Answers with `addrs` from now on.
    pub fn set(&self, addrs: &[Ipv4Addr]) {
        *self.addrs.lock() = addrs.to_vec();
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, addrs: Arc<Mutex<Vec<Ipv4Addr>>>) {
    let mut query = [0; 512];
    while let Ok((n, client)) = socket.recv_from(&mut query).await {
        let answer = answer(&query[..n], &addrs.lock());
        if let Some(answer) = answer {
            send(&socket, &answer, client).await;
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // Whoever asked may have gone.
    let _ = socket.send_to(answer, client).await;
}

/// The answer to a query with one question (RFC 1035, section 4): `addrs`, if that is what is asked
/// for, and otherwise that there is nothing.
fn answer(query: &[u8], addrs: &[Ipv4Addr]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: [u8; 4] = [0, 1, 0, 1];
    let name = query.get(HEADER..)?.iter().position(|b| *b == 0)?;
    let question = query.get(HEADER..HEADER + name + 5)?;
    let addrs = if question.ends_with(&A) { addrs } else { &[] };
    let count = u8::try_from(addrs.len()).ok()?;
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for addr in addrs {
        // The name is that of the question.
        answer.extend([0xc0, HEADER as u8]);
        answer.extend(A);
        answer.extend(TTL.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(addr.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_was_asked() {
        let a = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01";
        let got = answer(a, &[Ipv4Addr::new(127, 0, 0, 9)]).expect("a query");
        assert_eq!(got[..8], *b"\x12\x34\x81\x80\0\x01\0\x01");
        assert!(got.ends_with(&[0, 4, 127, 0, 0, 9]));
        let aaaa = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x1c\0\x01";
        let got = answer(aaaa, &[Ipv4Addr::LOCALHOST]).expect("a query");
        assert_eq!(got[6..8], [0, 0]);
        assert_eq!(answer(b"junk", &[]), None);
    }
}
