//! Lets hyper start its tasks on the worker it runs on.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};
use tokio::task::spawn_local;

/// Spawns on the current worker's thread; what is spawned need not be `Send`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExec;

/// As [`LocalExec`], and tells when the first task it was given has made a step. hyper's HTTP/2
/// client drives a connection in that task, and has no other way to say that something came.
#[derive(Clone, Default)]
pub struct SteppedExec(Rc<Steps>);

#[derive(Default)]
struct Steps {
    has_begun: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

// === impl LocalExec ===

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

// === impl SteppedExec ===

impl SteppedExec {
    /// Completes when `condition` holds, which is looked at now and after each step.
    pub async fn until(&self, condition: impl Fn() -> bool) {
        let met = poll_fn(|cx| {
            if condition() {
                return Poll::Ready(());
            }
            self.0.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        });
        met.await;
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for SteppedExec
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        let steps = self.0.clone();
        if steps.has_begun.replace(true) {
            spawn_local(task);
            return;
        }
        spawn_local(async move {
            let mut task = pin!(task);
            let stepped = poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                if let Some(waker) = steps.waiting.take() {
                    waker.wake();
                }
                polled
            });
            stepped.await
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor;
    use std::time::Duration;
    use tokio::{
        sync::oneshot,
        task::{LocalSet, yield_now},
        time::timeout,
    };

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_first_task_is_told() {
        LocalSet::new()
            .run_until(async {
                let exec = SteppedExec::default();
                let done = Rc::new(Cell::new(false));
                let (tx, rx) = oneshot::channel::<()>();
                let set = done.clone();
                exec.execute(async move {
                    let _ = rx.await;
                    set.set(true);
                    std::future::pending::<()>().await;
                });
                // Others are none of its business.
                exec.execute(async {});
                let (watching, watched) = (exec.clone(), done.clone());
                let waiter = spawn_local(async move { watching.until(|| watched.get()).await });
                for _ in 0..4 {
                    yield_now().await;
                }
                assert!(!waiter.is_finished());
                let _ = tx.send(());
                let told = timeout(Duration::from_secs(1), waiter).await;
                assert!(told.is_ok() && done.get());
            })
            .await;
    }
}
