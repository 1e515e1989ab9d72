//! Accepts connections, one task for each, until told to stop.

use crate::{drain::Signal, io::SocketOptions};
use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::sleep,
};

/// How long to wait when the process is out of file descriptors: some will be closed meanwhile.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on the current worker until `stop` completes. Each connection holds a guard of `drain`.
pub async fn serve<F>(
    listener: TcpListener,
    options: SocketOptions,
    drain: Signal,
    stop: impl Future<Output = ()>,
    handle: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            // Without the order, a busy listener could put the stop off.
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(OUT_OF_FILES_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = options.apply(&tcp) {
            tracing::debug!(%error, "connection was gone before it was served");
            continue;
        }
        let (guard, handled) = (drain.guard(), handle(tcp));
        spawn_local(async move {
            handled.await;
            drop(guard);
        });
    }
}
