//! Connections to the process's servers: taken up to a bound, and let go at shutdown.
//!
//! [`grpc`](crate::grpc) and [`http`](crate::http) say what is spoken on them.

use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};

/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Turns true, or closes, when the process stops.
pub type Stopping = watch::Receiver<bool>;

/// Serves connections, `max` at a time, until the process stops and those that are open have ended.
pub async fn each<C>(
    listener: TcpListener,
    max: usize,
    mut stopping: Stopping,
    serve: impl Fn(TcpStream, Stopping) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let watched = stopping.clone();
    loop {
        // Stopping comes first, so that a flood of clients cannot put it off.
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
            socket = listener.accept(), if connections.len() < max => match socket {
                Ok((socket, _)) => {
                    connections.spawn(serve(socket, watched.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the process stops.
pub async fn stopped(stopping: &mut Stopping) {
    // An error means that whoever says so is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
