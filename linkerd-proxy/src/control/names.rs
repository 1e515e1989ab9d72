//! Names that the control plane does not know and DNS does: looked up, and looked up again when the
//! answer has run out, for as long as somebody wants them.
//!
//! Whoever asked gets the addresses as it would get the endpoints of a service. A look-up that fails
//! later changes nothing: the last good answer stays.

use crate::{
    balance::Endpoints,
    dns::{Answer, MIN_TTL, ResolveError},
};
use mesh_policy::endpoint::Endpoint;
use std::sync::Arc;
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

/// What the first look-up found, and will be kept up to date.
pub(super) type Found = Result<watch::Receiver<Endpoints>, ResolveError>;

/// Looks up, tells `asked`, and goes on until all receivers are dropped.
pub(super) async fn follow<F>(look_up: impl Fn() -> F, asked: oneshot::Sender<Found>)
where
    F: Future<Output = Result<Answer, ResolveError>>,
{
    let answer = match look_up().await {
        Ok(answer) => answer,
        Err(error) => {
            // Nobody waits any more if this fails, here and below.
            let _ = asked.send(Err(error));
            return;
        }
    };
    let (tx, rx) = watch::channel(endpoints(&answer));
    if asked.send(Ok(rx)).is_err() {
        return;
    }
    tokio::select! {
        () = tx.closed() => {}
        () = refresh(&tx, answer, look_up) => {}
    }
}

/// Never completes.
async fn refresh<F>(tx: &watch::Sender<Endpoints>, first: Answer, look_up: impl Fn() -> F)
where
    F: Future<Output = Result<Answer, ResolveError>>,
{
    let mut ttl = first.ttl;
    loop {
        sleep(ttl).await;
        match look_up().await {
            Ok(answer) => {
                ttl = answer.ttl;
                let new = endpoints(&answer);
                tx.send_if_modified(|known| {
                    let is_news = *known != new;
                    *known = new;
                    is_news
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the last answer stays in use");
                ttl = MIN_TTL;
            }
        }
    }
}

fn endpoints(answer: &Answer) -> Endpoints {
    let endpoint = |addr: &_| (*addr, Endpoint::bare(*addr));
    Endpoints::Known(Arc::new(answer.addrs.iter().map(endpoint).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc, time::Duration};
    use tokio::{
        task::{JoinHandle, LocalSet, spawn_local, yield_now},
        time::{Instant, advance, timeout},
    };

    const TTL: Duration = Duration::from_secs(30);

    /// Answers one look-up after the other, each with these ports; `None` is a failure.
    #[derive(Clone)]
    struct Server(Rc<RefCell<VecDeque<Option<Vec<u16>>>>>);

    impl Server {
        fn new(answers: &[Option<&[u16]>]) -> Self {
            let answers = answers.iter().map(|a| a.map(<[u16]>::to_vec));
            Self(Rc::new(RefCell::new(answers.collect())))
        }

        fn left(&self) -> usize {
            self.0.borrow().len()
        }

        async fn start(&self) -> (Found, JoinHandle<()>) {
            let (tx, rx) = oneshot::channel();
            let server = self.clone();
            let look_up = move || {
                let ports = server.0.borrow_mut().pop_front().flatten();
                std::future::ready(match ports {
                    Some(ports) => Ok(Answer {
                        addrs: ports.into_iter().map(addr).collect(),
                        ttl: TTL,
                    }),
                    None => Err(ResolveError::stopping()),
                })
            };
            let task = spawn_local(follow(look_up, tx));
            (rx.await.unwrap(), task)
        }
    }

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn ports(endpoints: &watch::Receiver<Endpoints>) -> Vec<u16> {
        match &*endpoints.borrow() {
            Endpoints::Known(known) => known.keys().map(SocketAddr::port).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn pass(time: Duration) {
        // Let the task arm its timer, pass the time, let it run.
        yield_now().await;
        advance(time).await;
        yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn news_comes_when_the_answer_has_run_out() {
        LocalSet::new()
            .run_until(async {
                let server = Server::new(&[Some(&[1]), Some(&[2, 3])]);
                let (found, _task) = server.start().await;
                let mut found = found.unwrap();
                assert_eq!(ports(&found), [1]);
                let asked = Instant::now();
                found.changed().await.unwrap();
                assert_eq!(ports(&found), [2, 3]);
                let waited = asked.elapsed();
                assert!(waited >= TTL && waited < TTL * 2, "{waited:?}");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_addresses_in_another_order_are_no_news() {
        LocalSet::new()
            .run_until(async {
                let server = Server::new(&[Some(&[1, 2]), Some(&[2, 1])]);
                let (found, _task) = server.start().await;
                let found = found.unwrap();
                pass(TTL).await;
                assert_eq!(server.left(), 0, "it was asked");
                assert!(!found.has_changed().unwrap());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_changes_nothing_and_is_soon_tried_again() {
        LocalSet::new()
            .run_until(async {
                let server = Server::new(&[Some(&[1]), None, None, Some(&[2])]);
                let (found, _task) = server.start().await;
                let mut found = found.unwrap();
                pass(TTL).await;
                assert_eq!((server.left(), ports(&found)), (2, vec![1]));
                let failed = Instant::now();
                found.changed().await.unwrap();
                assert_eq!(ports(&found), [2]);
                assert!(failed.elapsed() < MIN_TTL * 3, "{:?}", failed.elapsed());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_wants_the_name_any_more() {
        LocalSet::new()
            .run_until(async {
                let server = Server::new(&[Some(&[1]), Some(&[2])]);
                let (found, task) = server.start().await;
                drop(found);
                let ended = timeout(TTL / 2, task).await;
                assert!(ended.is_ok());
                assert_eq!(server.left(), 1, "it was not asked again");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_found_is_an_error_and_no_more() {
        LocalSet::new()
            .run_until(async {
                let server = Server::new(&[None, Some(&[1])]);
                let (found, task) = server.start().await;
                assert!(found.is_err());
                task.await.unwrap();
                assert_eq!(server.left(), 1);
            })
            .await;
    }
}
