//! Lets hyper start its tasks on the worker it runs on.

use std::future::Future;
use tokio::task::spawn_local;

/// Spawns on the current worker's thread; what is spawned need not be `Send`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExec;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
