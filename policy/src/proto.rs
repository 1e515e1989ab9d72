//! The wire form of the model: Linkerd's proxy API, read into domain values and written from them.
//!
//! Reading is total: no message panics, and each refusal names the field it is about. What a
//! message asks for and this mesh does not do yet is no refusal: it is listed beside the value
//! ([`Read::ignored`]), for the caller to log and count. Writing never fails.
//!
//! The proxy reads and the controller writes, both from here, so neither sees a protobuf type past
//! its stream. Streams themselves, retries and logging are theirs.

pub mod destination;
mod duration;
pub mod inbound;
mod meta;
pub mod outbound;
mod path;

use self::path::Path;

/// A value read from the wire, and what was passed over to get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Read<T> {
    /// What is in force.
    pub value: T,
    /// Parts of the message that are not acted on, each with its field path.
    pub ignored: Vec<String>,
}

/// A message that cannot be taken, and the field that is why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    /// The field, for example `protocol.detect.http1.routes[0].rules[0].backends`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// See [`FieldError::problem`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A part is not there, or is of a kind this version does not know.
    #[error("missing {0}")]
    Missing(&'static str),
    /// An IP address without an address in it.
    #[error("not an IP address")]
    Address,
    /// A prefix that is longer than the address.
    #[error("a prefix of {0} bits does not fit the address")]
    Prefix(u32),
    /// A port that is not in 1 to 65535.
    #[error("{0} is not a port")]
    Port(u32),
    /// A negative or denormal duration, or one past ten thousand years.
    #[error("{seconds} s and {nanos} ns is not a duration")]
    Duration {
        /// As on the wire.
        seconds: i64,
        /// As on the wire.
        nanos: i32,
    },
    /// A number or duration that has to be more than zero.
    #[error("must be more than zero")]
    Zero,
    /// A backoff that is longer at first than at last.
    #[error("the shortest pause is longer than the longest")]
    Backoff,
    /// A jitter that is not in 0 to 100.
    #[error("must be from 0 to 100")]
    Jitter,
    /// A list of which every element was unusable.
    #[error("none of {0} can be used, the first because {1}")]
    AllUnusable(usize, String),
}

/// What reading carries along beside the value: the list of [`Read::ignored`].
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn ignore(&mut self, at: Path<'_>, what: &str) {
        self.0.push(format!("{at}: {what}"));
    }

    fn ignore_if(&mut self, present: bool, at: Path<'_>, what: &str) {
        if present {
            self.ignore(at, what);
        }
    }

    fn with<T>(self, value: T) -> Read<T> {
        Read {
            value,
            ignored: self.0,
        }
    }
}
