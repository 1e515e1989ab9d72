//! Questions about the cluster whose answers stay up to date.
//!
//! ```text
//! store --changes--> Index --(cluster, touched)--> Live<Q> --watch--> streams
//! ```
//! The index's task is the only one that changes the [`Cluster`]. A stream asks a question
//! through [`Live::ask`] and follows the answer; whoever asks the same shares it, so it is computed
//! and encoded once however many proxies follow. After a batch of changes only the questions that
//! it concerns are answered again, and only answers that differ are published. What is asked and
//! how it is answered is the business of [`destination`](crate::destination) and
//! [`policy`](crate::policy).

use crate::{
    cluster::{Cluster, Touched},
    source::Load,
    store::Store,
};
use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeSet, hash::Hash, sync::Arc};
use tokio::sync::watch;

/// Something that proxies want to know and to be kept told.
pub trait Question: Clone + Eq + Hash + Send + Sync + 'static {
    /// What is sent, in the form it is sent in.
    type Answer: PartialEq + Send + Sync + 'static;

    /// The answer as things are.
    fn answer(&self, cluster: &Cluster) -> Self::Answer;

    /// Whether the answer may have changed. May err towards yes.
    fn concerned(&self, cluster: &Cluster, touched: &Touched) -> bool;
}

/// The answers to one kind of question that somebody follows.
pub struct Live<Q: Question> {
    cluster: Arc<RwLock<Cluster>>,
    answers: Mutex<Answers<Q>>,
}

struct Answers<Q: Question> {
    watches: AHashMap<Q, watch::Sender<Arc<Q::Answer>>>,
    /// How many there may be before those that nobody follows are looked for.
    sweep_at: usize,
    /// No answer changes any more.
    closed: bool,
}

/// Keeps the cluster and its answers up to date.
pub struct Index {
    cluster: Arc<RwLock<Cluster>>,
    live: Vec<Arc<dyn Refresh>>,
    store: Store,
    duplicates: watch::Sender<Duplicates>,
}

/// Reports of objects that are defined twice.
pub type Duplicates = Arc<BTreeSet<String>>;

trait Refresh: Send + Sync {
    fn refresh(&self, cluster: &Cluster, touched: &Touched);
}

// === impl Index ===

impl Index {
    /// An index of nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Arc::new(RwLock::new(cluster)),
            live: Vec::new(),
            store: Store::default(),
            duplicates: watch::Sender::default(),
        }
    }

    /// For readers.
    pub fn cluster(&self) -> Arc<RwLock<Cluster>> {
        self.cluster.clone()
    }

    /// What is passed over because it is defined before.
    pub fn duplicates(&self) -> watch::Receiver<Duplicates> {
        self.duplicates.subscribe()
    }

    /// A place to ask questions of one kind.
    pub fn live<Q: Question>(&mut self) -> Arc<Live<Q>> {
        let live = Arc::new(Live {
            cluster: self.cluster.clone(),
            answers: Mutex::new(Answers {
                watches: AHashMap::new(),
                sweep_at: 64,
                closed: false,
            }),
        });
        self.live.push(live.clone());
        live
    }

    /// Takes what a source holds as all there is.
    pub fn load(&mut self, load: &Load) {
        let changes = self.store.apply(load);
        if **self.duplicates.borrow() != *self.store.duplicates() {
            let duplicates = self.store.duplicates().clone();
            self.duplicates.send_replace(Arc::new(duplicates));
        }
        if changes.is_empty() {
            return;
        }
        tracing::debug!(
            changes = changes.len(),
            objects = self.store.count(),
            "reloaded"
        );
        let touched = self.cluster.write().apply(changes);
        // Only this task writes, so nothing changes between the two locks.
        let cluster = self.cluster.read();
        for live in &self.live {
            live.refresh(&cluster, &touched);
        }
    }

    /// Follows a source until it ends.
    pub async fn follow(mut self, mut source: watch::Receiver<Arc<Load>>) {
        while source.changed().await.is_ok() {
            let load = source.borrow_and_update().clone();
            self.load(&load);
        }
    }
}

// === impl Live ===

impl<Q: Question> Live<Q> {
    /// The answer, and whatever it becomes.
    pub fn ask(&self, question: Q) -> watch::Receiver<Arc<Q::Answer>> {
        // Held until the answer is where a refresh finds it: no change falls in between.
        let cluster = self.cluster.read();
        let mut answers = self.answers.lock();
        if let Some(watch) = answers.watches.get(&question) {
            return watch.subscribe();
        }
        answers.sweep();
        let (watch, answer) = watch::channel(Arc::new(question.answer(&cluster)));
        if !answers.closed {
            answers.watches.insert(question, watch);
        }
        answer
    }

    /// The answer, once.
    pub fn answer(&self, question: &Q) -> Q::Answer {
        question.answer(&self.cluster.read())
    }

    /// Ends all that follows an answer, and whatever will: the process stops.
    pub fn close(&self) {
        let mut answers = self.answers.lock();
        answers.closed = true;
        answers.watches.clear();
    }

    /// How many questions are followed.
    pub fn followed(&self) -> usize {
        self.answers.lock().watches.len()
    }
}

impl<Q: Question> Answers<Q> {
    /// Drops what nobody follows, so that strange questions do not pile up between changes.
    fn sweep(&mut self) {
        if self.watches.len() >= self.sweep_at {
            self.watches.retain(|_, watch| watch.receiver_count() > 0);
            self.sweep_at = (self.watches.len() * 2).max(64);
        }
    }
}

impl<Q: Question> Refresh for Live<Q> {
    fn refresh(&self, cluster: &Cluster, touched: &Touched) {
        let mut answers = self.answers.lock();
        answers
            .watches
            .retain(|_, watch| watch.receiver_count() > 0);
        for (question, watch) in &answers.watches {
            if !question.concerned(cluster, touched) {
                continue;
            }
            let answer = question.answer(cluster);
            watch.send_if_modified(|current| {
                let news = **current != answer;
                if news {
                    *current = Arc::new(answer);
                }
                news
            });
        }
    }
}

#[cfg(test)]
mod tests;
