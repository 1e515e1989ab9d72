//! What certificates are made with: the issuer, the trust anchors and the key of tokens, from files.
//!
//! The files are read twice a second, whatever stands between their names and their contents, so a
//! swap of symbolic links as Kubernetes does it is noticed like an editor's write. What was read is
//! judged once it has stood still for a look, all of it together: [`judge`] takes what works and
//! keeps what worked. Whoever certifies follows the [`Authority`] that is in force.

use super::{
    anchors::Anchors,
    files::{Paths, Texts, UnreadableFile},
    issuer::Issuer,
    name::Identities,
    token::{Tokens, Verifier},
};
use crate::metrics::Metrics;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Duration, Instant, MissedTickBehavior, interval},
};

/// Between two looks. A change is in force after two of them.
const LOOK: Duration = Duration::from_millis(500);
/// What is not valid yet may become so although no file changes.
const RECONSIDER: Duration = Duration::from_secs(30);

/// What is in force at one moment.
#[derive(Clone)]
pub struct Authority {
    /// `None`: there never were any that work.
    pub anchors: Option<Arc<Anchors>>,
    /// `None`: there never was one that works.
    pub issuer: Option<Arc<Issuer>>,
    /// Who knows whose tokens are whose.
    pub tokens: Arc<dyn Tokens>,
    /// Why files are not in force as they are.
    pub problems: Problems,
}

/// See [`Authority::problems`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problems {
    /// Of the issuer.
    pub issuer: Option<String>,
    /// Of the trust anchors.
    pub anchors: Option<String>,
    /// Of the key of tokens.
    pub token_key: Option<String>,
}

/// Keeps the [`Authority`] up to date.
pub struct Files {
    paths: Paths,
    identities: Identities,
    /// As last judged.
    judged: Texts,
    /// Those of which what is in force was made.
    good: Texts,
    publish: watch::Sender<Arc<Authority>>,
    metrics: Arc<Metrics>,
}

impl Files {
    /// Reads the files for the first time. `tokens` is who is asked when there is no key for them.
    ///
    /// # Errors
    /// When a file cannot be read, or there is nobody to ask. Of files that can be read but not used
    /// nothing is in force, until they are mended.
    pub fn open(
        paths: Paths,
        identities: Identities,
        tokens: Option<Arc<dyn Tokens>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, UnreadableFile> {
        let texts = paths.read();
        texts.complete()?;
        let tokens = match &texts.token_key {
            None => tokens.ok_or(UnreadableFile::NoTokens)?,
            Some(text) => {
                let verifier = verifier(text);
                Arc::new(verifier.map_err(UnreadableFile::TokenKey)?)
            }
        };
        let empty = Authority {
            anchors: None,
            issuer: None,
            tokens,
            problems: Problems::default(),
        };
        let mut files = Self {
            paths,
            identities,
            judged: texts.clone(),
            good: Texts::default(),
            publish: watch::Sender::new(Arc::new(empty)),
            metrics,
        };
        files.take(texts, OffsetDateTime::now_utc());
        Ok(files)
    }

    /// What is in force, as it changes.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.publish.subscribe()
    }

    /// Watches the files until dropped. Not meant to return.
    pub async fn watch(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.judged.clone();
        let mut judged_at = Instant::now();
        loop {
            looks.tick().await;
            let paths = self.paths.clone();
            let Ok(texts) = tokio::task::spawn_blocking(move || paths.read()).await else {
                tracing::error!("reading the identity's files panicked, trying again");
                continue;
            };
            let still = texts == seen;
            let again = self.has_problems() && judged_at.elapsed() > RECONSIDER;
            if still && (texts != self.judged || again) {
                judged_at = Instant::now();
                self.take(texts, OffsetDateTime::now_utc());
            } else {
                seen = texts;
            }
        }
    }

    fn has_problems(&self) -> bool {
        self.publish.borrow().problems != Problems::default()
    }

    /// Judges `texts` and puts what works in force.
    fn take(&mut self, texts: Texts, now: OffsetDateTime) {
        let before = self.publish.borrow().clone();
        let (after, good) = judge(&texts, &self.good, &before, &self.identities, now);
        self.judged = texts;
        self.good = good;
        self.shout(&before.problems, &after.problems);
        announce(&before, &after);
        self.publish.send_replace(Arc::new(after));
    }

    /// Each problem once.
    fn shout(&self, before: &Problems, after: &Problems) {
        let metrics = &self.metrics;
        let table = [
            (
                "issuer",
                &before.issuer,
                &after.issuer,
                &metrics.issuer_reload_failures,
            ),
            (
                "trust anchors",
                &before.anchors,
                &after.anchors,
                &metrics.anchors_reload_failures,
            ),
            (
                "token key",
                &before.token_key,
                &after.token_key,
                &metrics.token_key_reload_failures,
            ),
        ];
        for (what, before, after, failures) in table {
            if let Some(problem) = after.as_ref().filter(|_| before != after) {
                failures.fetch_add(1, Relaxed);
                tracing::error!("identity: bad {what}, what was good before stays: {problem}");
            }
        }
    }
}

/// The life of a mesh's trust, for whoever reads logs afterwards.
fn announce(before: &Authority, after: &Authority) {
    if let Some(issuer) = &after.issuer {
        let same = |old: &Arc<Issuer>| old.certificate() == issuer.certificate();
        if !before.issuer.as_ref().is_some_and(same) {
            let summary = &issuer.certificate().summary;
            let super::certificate::Summary {
                subject,
                serial,
                not_after,
                ..
            } = summary;
            tracing::info!(subject, serial, not_after, "identity: issuer in force");
        }
    }
    if let Some(anchors) = &after.anchors {
        let same = |old: &Arc<Anchors>| old.certificates() == anchors.certificates();
        if !before.anchors.as_ref().is_some_and(same) {
            let subjects = anchors
                .certificates()
                .iter()
                .map(|c| c.summary.subject.as_str());
            let subjects: Vec<_> = subjects.collect();
            tracing::info!(?subjects, "identity: trust anchors in force");
        }
    }
}

// === judging ===

/// Why an issuer and trust anchors do not go together.
enum Unfit {
    Anchors(String),
    Issuer(String),
}

/// What works of `new`, and of `good`, which is what `before` was made of, where it does not. Tells
/// also of what it was made.
///
/// An issuer that proxies do not trust is of no use, and neither are anchors with which nothing that
/// is signed is trusted, so the two are only taken if they go together.
fn judge(
    new: &Texts,
    good: &Texts,
    before: &Authority,
    identities: &Identities,
    now: OffsetDateTime,
) -> (Authority, Texts) {
    let mut after = before.clone();
    let mut made_of = good.clone();
    after.problems = Problems::default();

    let (chosen, problems) = choose(new, good, before.issuer.is_some(), |texts| {
        combine(texts, identities, now)
    });
    after.problems.issuer = problems.issuer;
    after.problems.anchors = problems.anchors;
    match chosen {
        Some(Chosen {
            texts,
            anchors,
            issuer,
        }) => {
            made_of.anchors = texts.anchors;
            made_of.issuer = texts.issuer;
            after.anchors = Some(Arc::new(anchors));
            after.issuer = Some(Arc::new(issuer));
        }
        // Better than nothing, for whoever wants to know what is trusted.
        None if before.issuer.is_none() => {
            after.anchors = read_anchors(new, now).ok().map(Arc::new)
        }
        None => {}
    }
    if let Some(text) = &new.token_key {
        match verifier(text) {
            Ok(verifier) => after.tokens = Arc::new(verifier),
            Err(problem) => after.problems.token_key = Some(problem),
        }
    }
    (after, made_of)
}

/// An issuer and anchors that go together.
struct Chosen {
    texts: Texts,
    anchors: Anchors,
    issuer: Issuer,
}

fn choose(
    new: &Texts,
    good: &Texts,
    any_good: bool,
    combine: impl Fn(Texts) -> Result<Chosen, Unfit>,
) -> (Option<Chosen>, Problems) {
    let mut problems = Problems::default();
    let unfit = match combine(new.clone()) {
        Ok(both) => return (Some(both), problems),
        Err(unfit) => unfit,
    };
    let kept_issuer = Texts {
        issuer: good.issuer.clone(),
        ..new.clone()
    };
    let kept_anchors = Texts {
        anchors: good.anchors.clone(),
        ..new.clone()
    };
    let kept = [kept_issuer, kept_anchors].map(|texts| match any_good {
        true => combine(texts),
        false => Err(Unfit::Issuer("there was none before".to_owned())),
    });
    let [with_new_anchors, with_new_issuer] = kept;
    match (unfit, with_new_anchors, with_new_issuer) {
        (Unfit::Issuer(why), Ok(chosen), _) => {
            problems.issuer = Some(why);
            (Some(chosen), problems)
        }
        (Unfit::Issuer(why) | Unfit::Anchors(why), _, Ok(chosen)) => {
            problems.anchors = Some(why);
            (Some(chosen), problems)
        }
        (Unfit::Anchors(why), _, Err(_)) => {
            problems.anchors = Some(why);
            (None, problems)
        }
        (Unfit::Issuer(why), Err(_), Err(_)) => {
            problems.issuer = Some(why);
            if any_good && new.anchors != good.anchors {
                let stays = "nothing that the issuer in force signs would be trusted";
                problems.anchors = Some(stays.to_owned());
            }
            (None, problems)
        }
    }
}

fn combine(texts: Texts, identities: &Identities, now: OffsetDateTime) -> Result<Chosen, Unfit> {
    let anchors = read_anchors(&texts, now).map_err(Unfit::Anchors)?;
    let pair = texts
        .issuer
        .as_ref()
        .map_err(|error| Unfit::Issuer(error.clone()))?;
    let issuer = Issuer::read(&pair.chain, &pair.key, &anchors, identities, now);
    let issuer = issuer.map_err(|error| Unfit::Issuer(error.to_string()))?;
    Ok(Chosen {
        texts,
        anchors,
        issuer,
    })
}

fn read_anchors(texts: &Texts, now: OffsetDateTime) -> Result<Anchors, String> {
    let text = texts.anchors.as_ref().map_err(Clone::clone)?;
    Anchors::read(text, now).map_err(|error| error.to_string())
}

fn verifier(text: &Result<String, String>) -> Result<Verifier, String> {
    let text = text.as_ref().map_err(Clone::clone)?;
    Verifier::from_pem(text).map_err(|error| error.to_string())
}

// === impl Problems ===

impl Problems {
    /// All of them, in sentences.
    pub fn lines(&self) -> Vec<String> {
        let all = [
            ("issuer", &self.issuer),
            ("trust anchors", &self.anchors),
            ("token key", &self.token_key),
        ];
        let lines = all.into_iter().filter_map(|(what, problem)| {
            let problem = problem.as_ref()?;
            Some(format!("{what}: {problem}"))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests;
