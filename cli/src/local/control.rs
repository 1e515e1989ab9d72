//! The socket of a running mesh: other commands ask it how it is, or to stop.
//!
//! `supervisor` serves it, `local` and the commands that look for a mesh are its clients. One line
//! of JSON each way. Only the owner reaches it: the state directory is private.

use super::component::ComponentState;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(2);
const MAX_QUESTION: u64 = 1024;
/// 4,000 replicas, described.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Question {
    Status,
    Stop,
}

/// How a mesh is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) state_dir: PathBuf,
    /// What `up` was given.
    #[serde(default)]
    pub(crate) manifests: Vec<PathBuf>,
    /// Controller and every wanted replica are ready.
    pub(crate) ready: bool,
    pub(crate) controller_ip: Option<Ipv4Addr>,
    pub(crate) controller: ComponentState,
    pub(crate) pods: Vec<PodStatus>,
    pub(crate) wanted_pods: usize,
    pub(crate) warnings: Vec<String>,
    /// Why what runs is not what the manifests say.
    pub(crate) trouble: Option<String>,
}

/// How a replica is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct PodStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) meshed: bool,
    pub(crate) ready: bool,
    pub(crate) stopping: bool,
    pub(crate) processes: Vec<ComponentState>,
    /// Container ports and where the application listens for each.
    pub(crate) ports: Vec<(u16, u16)>,
}

/// Why a mesh could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("{0}: {1}; the mesh may be starting or stopping, try again")]
    Io(PathBuf, std::io::Error),
    #[error(
        "its process {0} does not answer within 2s; if it was stopped, `kill -CONT {0}` lets it go \
         on; `kill -9 {0}` ends it and all that it runs"
    )]
    Deadline(i32),
    #[error("{0} gives no answer this version understands ({1}); use the meshctl that started it")]
    Answer(PathBuf, serde_json::Error),
}

/// Where a mesh listens.
pub(crate) fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Asks the mesh of a state directory.
pub(crate) async fn ask(state: &Path, question: Question) -> Result<Status, ControlError> {
    let path = socket(state);
    let failed = |error| ControlError::Io(path.clone(), error);
    let (mut stream, pid) = connect(&path).await.map_err(failed)?;
    let exchange = async {
        let line = serde_json::to_string(&question).map_err(std::io::Error::other)?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream)
            .take(MAX_ANSWER)
            .read_line(&mut answer)
            .await?;
        Ok(answer)
    };
    let answer = tokio::time::timeout(DEADLINE, exchange)
        .await
        .map_err(|_| ControlError::Deadline(pid))?
        .map_err(failed)?;
    serde_json::from_str(&answer).map_err(|error| ControlError::Answer(path, error))
}

/// A connection, and the process that is to answer.
async fn connect(path: &Path) -> std::io::Result<(UnixStream, i32)> {
    let stream = tokio::time::timeout(DEADLINE, UnixStream::connect(path)).await??;
    let pid = stream.peer_cred()?.pid();
    let pid = pid.ok_or_else(|| std::io::Error::other("nobody knows whose it is"))?;
    Ok((stream, pid))
}

/// Answers questions with the current status for as long as it is polled; `stop` is called when
/// somebody asks for the end.
pub(super) async fn serve(
    listener: UnixListener,
    status: watch::Receiver<Status>,
    stop: impl Fn(),
) -> Infallible {
    loop {
        // One at a time: answers are short, and the deadline bounds the wait for a slow client.
        if let Ok((stream, _)) = listener.accept().await {
            let current = status.borrow().clone();
            if let Ok(Ok(Question::Stop)) =
                tokio::time::timeout(DEADLINE, answer(stream, current)).await
            {
                stop();
            }
        }
    }
}

async fn answer(mut stream: UnixStream, status: Status) -> std::io::Result<Question> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader)
        .take(MAX_QUESTION)
        .read_line(&mut line)
        .await?;
    let question: Question = serde_json::from_str(&line).map_err(std::io::Error::other)?;
    let mut answer = serde_json::to_string(&status).map_err(std::io::Error::other)?;
    answer.push('\n');
    writer.write_all(answer.as_bytes()).await?;
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_answered_and_nonsense_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(dir.path())).unwrap();
        let status = Status {
            name: "a".to_string(),
            pid: 7,
            ..Status::default()
        };
        let (_keep, receiver) = watch::channel(status.clone());
        let stopped = watch::Sender::new(false);
        let server = serve(listener, receiver, || _ = stopped.send_replace(true));
        let client = async {
            let mut nonsense = UnixStream::connect(socket(dir.path())).await.unwrap();
            nonsense.write_all(b"hello\n").await.unwrap();
            assert_eq!(ask(dir.path(), Question::Status).await.unwrap(), status);
            assert!(!*stopped.borrow());
            ask(dir.path(), Question::Stop).await.unwrap();
            ask(dir.path(), Question::Status).await.unwrap();
            assert!(*stopped.borrow());
        };
        tokio::select! {
            never = server => match never {},
            () = client => {}
        }
    }

    #[tokio::test]
    async fn a_mesh_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = ask(dir.path(), Question::Status).await.unwrap_err();
        assert!(matches!(error, ControlError::Io(..)));
    }
}
