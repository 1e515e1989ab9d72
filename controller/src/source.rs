//! Where objects come from.
//!
//! A source yields the same objects whatever it reads, as [`Load`]s: all there is, with what could
//! not be read beside it. Today there is one, a [`directory`] of manifests; what stands behind
//! the [`store`](crate::store) does not know which source it was.

pub mod directory;
pub mod document;
mod field;
pub mod manifest;
mod unknown;
pub mod watch;

pub use self::document::ManifestError;

use crate::object::Object;
use std::{collections::BTreeMap, sync::Arc};

/// Everything that a source holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// By file name, which is also the order in which duplicates are decided.
    pub files: BTreeMap<Arc<str>, File>,
    /// What is wrong with the source itself; what it held before stays in force.
    pub problem: Option<String>,
}

/// One file of a source.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What is in force from it: of a file that turned bad, what it held before.
    pub manifests: Arc<Manifests>,
    /// Why its present content is not in force.
    pub error: Option<ManifestError>,
}

/// What a file held.
#[derive(Debug, Default)]
pub struct Manifests {
    /// What the mesh knows what to do with.
    pub objects: Vec<Object>,
    /// The line on which each of them begins.
    pub lines: Vec<usize>,
    /// What was wrong in objects that are used all the same.
    pub warnings: Vec<String>,
    /// How many objects were of kinds that are not used.
    pub unused: usize,
}

impl Load {
    /// Whether `other` holds the very same manifests and errors.
    fn same(&self, other: &Self) -> bool {
        self.problem == other.problem
            && self.files.keys().eq(other.files.keys())
            && self
                .files
                .values()
                .zip(other.files.values())
                .all(|(a, b)| a.same(b))
    }

    /// Why files are not in force as they are, by file name.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &ManifestError)> {
        let files = self.files.iter();
        files.filter_map(|(name, file)| Some((&**name, file.error.as_ref()?)))
    }
}

impl File {
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.manifests, &other.manifests) && self.error == other.error
    }
}
