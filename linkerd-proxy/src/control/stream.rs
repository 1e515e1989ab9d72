//! The law by which every stream is followed: asked, taken, kept when it breaks, asked again.
//!
//! ```text
//!          +-------------------- pause <---------------------+
//!          v                                                 |
//!   ask -> first message -> more messages -> end, error, silence
//!          |                     |
//!          +-- not known --------+-- nobody wants it --> over
//! ```
//!
//! The first message after asking again replaces what was known. A message that makes no sense is
//! logged once, counted, and changes nothing.

use super::{channel::Channel, client::Client};
use crate::{
    balance::backoff::Pauses,
    config::Control,
    metrics::{Registry, label},
};
use ahash::AHashMap;
use mesh_policy::outbound::Backoff;
use metrics::Counter;
use parking_lot::Mutex;
use std::{hash::Hash, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Code, Status, Streaming};

/// A control plane that is back is heard within two seconds, so the pauses stay below.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// When something the control plane does not know is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Deadline of the first message when none is configured.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers that nobody waits for are kept while the control plane is away, up to this many.
const MAX_KEPT: usize = 4_096;

/// One question to the control plane.
pub(super) trait Feed: Send + Sync + 'static {
    /// What the stream carries.
    type Message: Send + 'static;
    /// What is published.
    type Value: Clone + PartialEq + Send + Sync + 'static;

    /// The name in logs and metrics.
    const NAME: &'static str;

    /// What the question is about, for logs.
    fn subject(&self) -> String;

    /// Whom to ask.
    fn client(&self) -> Arc<Client>;

    /// Published before the first message.
    fn initial(&self) -> Self::Value;

    /// Published when the control plane knows of no such thing; `None`: what there is stays in force.
    fn absent(&self) -> Option<Self::Value>;

    /// Asks.
    fn open(
        &self,
        channel: Channel,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Takes a message and yields what is known now. `is_first` since it was last asked.
    ///
    /// # Errors
    ///
    /// What is wrong with the message, which then changes nothing.
    fn take(&mut self, message: Self::Message, is_first: bool) -> Result<Self::Value, String>;
}

/// How streams are treated; the same for all of them.
#[derive(Clone)]
pub(super) struct Context {
    initial_timeout: Duration,
    idle_timeout: Option<Duration>,
    lifetime: Option<Duration>,
    backoff: Backoff,
    refused: Arc<AHashMap<&'static str, Counter>>,
}

/// The streams of one kind, by what they are about.
pub(super) struct Followed<K, V>(Arc<Mutex<AHashMap<K, watch::Sender<V>>>>);

/// Why a stream is no longer followed.
enum End {
    Unwanted,
    NotKnown,
    Broken(Status),
}

// === impl Context ===

impl Context {
    pub(super) fn new(config: &Control, registry: &Registry) -> Self {
        let counter = |stream| {
            let name = "control_stream_updates_refused_total";
            (
                stream,
                registry.counter(name, vec![label("stream", stream)]),
            )
        };
        let backoff = config.backoff;
        Self {
            initial_timeout: config.initial_timeout.unwrap_or(INITIAL_TIMEOUT),
            idle_timeout: config.idle_timeout,
            lifetime: config.lifetime,
            backoff: Backoff {
                min: backoff.min.min(MAX_PAUSE),
                max: backoff.max.min(MAX_PAUSE),
                jitter: backoff.jitter.max(0.1),
            },
            refused: Arc::new(
                ["outbound", "inbound", "profile", "endpoints"]
                    .map(counter)
                    .into(),
            ),
        }
    }
}

// === impl Followed ===

impl<K, V> Default for Followed<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Followed<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + PartialEq + Send + Sync + 'static,
{
    /// The answers to the question about `key`, asked by `feed` if it is not asked yet.
    pub(super) fn get<F: Feed<Value = V>>(
        &self,
        key: K,
        control: &Handle,
        context: &Context,
        feed: impl FnOnce() -> F,
    ) -> watch::Receiver<V> {
        let mut map = self.0.lock();
        if let Some(known) = map.get(&key) {
            return known.subscribe();
        }
        let feed = feed();
        let (tx, rx) = watch::channel(feed.initial());
        map.insert(key.clone(), tx.clone());
        let follower = Follower {
            feed,
            tx,
            context: context.clone(),
            last_problem: None,
        };
        control.spawn(follower.run(self.0.clone(), key));
        rx
    }
}

// === impl Follower ===

struct Follower<F: Feed> {
    feed: F,
    tx: watch::Sender<F::Value>,
    context: Context,
    last_problem: Option<String>,
}

impl<F: Feed> Follower<F> {
    /// Follows until nobody wants the answers any more.
    async fn run<K: Hash + Eq>(
        mut self,
        map: Arc<Mutex<AHashMap<K, watch::Sender<F::Value>>>>,
        key: K,
    ) {
        let mut pauses = Pauses::new(self.context.backoff);
        loop {
            let asked = Instant::now();
            // While the control plane is away, an answer is kept even if nobody wants it now.
            let (pause, may_keep) = match self.attempt().await {
                End::Unwanted => (Duration::ZERO, false),
                End::NotKnown => (ASK_AGAIN, false),
                End::Broken(status) => {
                    self.log(&status);
                    // A stream that lasted was not the problem.
                    if asked.elapsed() > MAX_PAUSE {
                        pauses = Pauses::new(self.context.backoff);
                    }
                    (pauses.pause(), *self.tx.borrow() != self.feed.initial())
                }
            };
            sleep(pause).await;
            // Under the lock nobody can begin to want it.
            let mut map = map.lock();
            let is_kept = may_keep && map.len() < MAX_KEPT;
            if self.tx.receiver_count() == 0 && !is_kept {
                map.remove(&key);
                return;
            }
        }
    }

    /// Asks once and takes what comes.
    async fn attempt(&mut self) -> End {
        let client = self.feed.client();
        let asking = async {
            let (channel, generation) = client.channel().await?;
            let opened = self.feed.open(channel).await;
            Ok::<_, Status>((opened, generation))
        };
        let (opened, generation) = match timeout(self.context.initial_timeout, asking).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(status)) => return End::Broken(status),
            Err(_) => return End::Broken(Status::deadline_exceeded("no answer to the request")),
        };
        let status = match opened {
            Ok(messages) => match self.take_all(messages).await {
                Ok(end) => return end,
                Err(status) => status,
            },
            Err(status) => status,
        };
        if is_not_known(&status) {
            self.forget(status.code());
            return End::NotKnown;
        }
        if status.code() != Code::Cancelled {
            client.discard(generation).await;
        }
        End::Broken(status)
    }

    async fn take_all(&mut self, mut messages: Streaming<F::Message>) -> Result<End, Status> {
        let life = self.context.lifetime.map(|life| Instant::now() + life);
        let mut limit = Some(self.context.initial_timeout);
        let mut is_first = true;
        loop {
            let unwanted = self.tx.clone();
            let next = async {
                tokio::select! {
                    message = messages.message() => Some(message),
                    () = unwanted.closed() => None,
                }
            };
            let next = async {
                match limit {
                    Some(limit) => timeout(limit, next)
                        .await
                        .map_err(|_| Status::deadline_exceeded("silent")),
                    None => Ok(next.await),
                }
            };
            let next = match life {
                Some(life) => timeout_at(life, next)
                    .await
                    .map_err(|_| Status::cancelled("lifetime over"))?,
                None => next.await,
            };
            match next? {
                None => return Ok(End::Unwanted),
                Some(message) => match message? {
                    Some(message) => self.take(message, is_first),
                    None => return Err(Status::cancelled("stream ended")),
                },
            }
            is_first = false;
            limit = self.context.idle_timeout;
        }
    }

    fn take(&mut self, message: F::Message, is_first: bool) {
        match self.feed.take(message, is_first) {
            Ok(value) => {
                self.last_problem = None;
                self.publish(value);
            }
            Err(problem) => {
                if let Some(refused) = self.context.refused.get(F::NAME) {
                    refused.increment(1);
                }
                if self.last_problem.as_ref() != Some(&problem) {
                    let (stream, subject) = (F::NAME, self.feed.subject());
                    tracing::warn!(
                        stream,
                        subject,
                        problem,
                        "update refused; the last good one stays"
                    );
                    self.last_problem = Some(problem);
                }
            }
        }
    }

    /// The control plane knows of no such thing. One that has lost what it knew, or something else in
    /// its place, says so, too: what is known stays unless the question itself is refused.
    fn forget(&self, code: Code) {
        let is_refused = matches!(code, Code::InvalidArgument | Code::FailedPrecondition);
        if let Some(absent) = self.feed.absent()
            && (is_refused || *self.tx.borrow() == self.feed.initial())
        {
            self.publish(absent);
        }
    }

    fn publish(&self, value: F::Value) {
        self.tx.send_if_modified(|current| {
            let is_new = *current != value;
            *current = value;
            is_new
        });
    }

    fn log(&mut self, status: &Status) {
        let (stream, subject) = (F::NAME, self.feed.subject());
        let message = status.message();
        tracing::debug!(stream, subject, code = ?status.code(), message, "control stream broke");
    }
}

/// The answers by which a control plane says that it knows of no such thing.
fn is_not_known(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented
    )
}
