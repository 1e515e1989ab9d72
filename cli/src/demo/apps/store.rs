//! A store with a line protocol over plain TCP, and its client.
//!
//! `SET KEY VALUE`, `GET KEY`, `INCR KEY`; each line is answered with one line.

use super::{interrupted, listen_addr};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

const MAX_LINE: u64 = 1024;
const MAX_KEYS: usize = 10_000;
const IDLE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(5);

type Data = Arc<Mutex<BTreeMap<String, String>>>;

/// Serves until told to end; answers are single lines, so nothing is left half done.
pub(super) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen_addr()?).await?;
    let data = Data::default();
    let mut clients = JoinSet::new();
    let mut stop = pin!(interrupted());
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => { clients.spawn(client(stream, data.clone())); }
            Some(_) = clients.join_next() => {}
            () = &mut stop => return Ok(()),
        }
    }
}

async fn client(stream: TcpStream, data: Data) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read = async { (&mut stream).take(MAX_LINE).read_line(&mut line).await };
        match timeout(IDLE, read).await {
            Ok(Ok(length)) if length > 0 => {}
            _ => return,
        }
        let answer = execute(line.trim(), &mut *data.lock().await);
        if stream
            .get_mut()
            .write_all(format!("{answer}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

fn execute(line: &str, data: &mut BTreeMap<String, String>) -> String {
    let mut words = line.splitn(3, ' ');
    let (command, key, value) = (words.next(), words.next(), words.next());
    let room = key.is_some_and(|key| data.contains_key(key)) || data.len() < MAX_KEYS;
    match (command, key, value) {
        (Some("GET"), Some(key), None) => data.get(key).cloned().unwrap_or_else(|| "NONE".into()),
        (Some("SET" | "INCR"), ..) if !room => "ERROR full".to_string(),
        (Some("SET"), Some(key), Some(value)) => {
            data.insert(key.to_string(), value.to_string());
            "OK".to_string()
        }
        (Some("INCR"), Some(key), None) => {
            let number = data.get(key).and_then(|value| value.parse::<u64>().ok());
            let number = number.unwrap_or(0).saturating_add(1).to_string();
            data.insert(key.to_string(), number.clone());
            number
        }
        _ => "ERROR take GET KEY, SET KEY VALUE or INCR KEY".to_string(),
    }
}

/// Asks the store, over one connection that is renewed when it breaks.
pub(super) struct StoreClient {
    addr: String,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

// === impl StoreClient ===

impl StoreClient {
    pub(super) fn new(addr: String) -> Self {
        Self {
            addr,
            connection: Mutex::default(),
        }
    }

    /// One line out, one line back.
    pub(super) async fn ask(&self, line: &str) -> anyhow::Result<String> {
        let mut kept = self.connection.lock().await;
        // Taken out first: after an error or a deadline the connection is not used again.
        if let Some(mut connection) = kept.take()
            && let Ok(Ok(answer)) = timeout(DEADLINE, exchange(&mut connection, line)).await
        {
            *kept = Some(connection);
            return Ok(answer);
        }
        let fresh = async {
            let mut connection = BufReader::new(TcpStream::connect(&self.addr).await?);
            let answer = exchange(&mut connection, line).await?;
            anyhow::Ok((connection, answer))
        };
        let (connection, answer) = timeout(DEADLINE, fresh).await??;
        *kept = Some(connection);
        Ok(answer)
    }
}

async fn exchange(connection: &mut BufReader<TcpStream>, line: &str) -> anyhow::Result<String> {
    connection
        .get_mut()
        .write_all(format!("{line}\n").as_bytes())
        .await?;
    let mut answer = String::new();
    let length = connection.take(MAX_LINE).read_line(&mut answer).await?;
    anyhow::ensure!(length > 0, "the store has closed the connection");
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_executed() {
        let mut data = BTreeMap::new();
        for (line, answer) in [
            ("GET a", "NONE"),
            ("SET a 1 2", "OK"),
            ("GET a", "1 2"),
            ("INCR n", "1"),
            ("INCR n", "2"),
            ("INCR a", "1"),
        ] {
            assert_eq!(execute(line, &mut data), answer, "{line}");
        }
        assert!(execute("DROP a", &mut data).starts_with("ERROR"));
        assert!(execute("", &mut data).starts_with("ERROR"));
    }
}
