//! All objects of all files, and what changed from one load of the source to the next.
//!
//! Pure. An object that two files hold is taken from the file whose name comes first, and reported;
//! so nothing depends on the order in which files were written.

use crate::{
    object::{Id, Object},
    source::Load,
};
use ahash::AHashMap;
use std::collections::{BTreeSet, hash_map::Entry};

/// The objects in force.
#[derive(Default)]
pub struct Store {
    objects: AHashMap<Id, Object>,
    /// The reports of the last load, so that each is logged once.
    duplicates: BTreeSet<String>,
}

/// Of a directory that was copied into another, every object is a duplicate.
const MAX_LOGGED: usize = 20;

/// A difference between two loads.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// New or different.
    Put(Object),
    /// Gone; this is how it was.
    Remove(Object),
}

impl Store {
    /// Takes `load` as all there is.
    pub fn apply(&mut self, load: &Load) -> Vec<Change> {
        let (objects, duplicates) = merge(load);
        let mut news = duplicates.difference(&self.duplicates);
        for report in news.by_ref().take(MAX_LOGGED) {
            tracing::warn!("{report}");
        }
        match news.count() {
            0 => {}
            more => tracing::warn!("{more} more objects are defined twice"),
        }
        self.duplicates = duplicates;
        let before = std::mem::replace(&mut self.objects, objects);
        let gone = before
            .iter()
            .filter(|(id, _)| !self.objects.contains_key(id));
        let mut changes: Vec<_> = gone.map(|(_, it)| Change::Remove(it.clone())).collect();
        let news = self.objects.iter();
        let news = news.filter(|(id, object)| !before.get(id).is_some_and(|old| old.same(object)));
        changes.extend(news.map(|(_, object)| Change::Put(object.clone())));
        changes
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// Objects that were passed over because another file has them, too.
    pub fn duplicates(&self) -> &BTreeSet<String> {
        &self.duplicates
    }
}

fn merge(load: &Load) -> (AHashMap<Id, Object>, BTreeSet<String>) {
    let mut objects = AHashMap::new();
    let mut duplicates = BTreeSet::new();
    for (name, file) in &load.files {
        let manifests = &file.manifests;
        for (object, line) in manifests.objects.iter().zip(&manifests.lines) {
            match objects.entry(object.id()) {
                Entry::Vacant(entry) => {
                    entry.insert(object.clone());
                }
                Entry::Occupied(entry) => {
                    let id = entry.key();
                    let problem = "is defined before, ignored here";
                    duplicates.insert(format!("{name}: line {line}: {id} {problem}"));
                }
            }
        }
    }
    (objects, duplicates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{File, manifest};
    use std::sync::Arc;

    fn load(files: &[(&str, &str)]) -> Load {
        let files = files.iter().map(|(name, text)| {
            let manifests = manifest::parse(text).expect("manifests");
            let manifests = Arc::new(manifests);
            (
                (*name).into(),
                File {
                    manifests,
                    error: None,
                },
            )
        });
        Load {
            files: files.collect(),
            problem: None,
        }
    }

    fn service(name: &str, port: u16) -> String {
        let meta = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}");
        format!("{meta}\nspec: {{ports: [{{port: {port}}}]}}\n")
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let mut told: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Put(object) => format!("+{}", object.id()),
                Change::Remove(object) => format!("-{}", object.id()),
            })
            .collect();
        told.sort();
        told
    }

    #[test]
    fn only_differences_are_told() {
        let mut store = Store::default();
        let (a, b) = (service("a", 1), service("b", 1));
        let first = load(&[("1.yaml", &a), ("2.yaml", &b)]);
        assert_eq!(
            told(&store.apply(&first)),
            ["+Service default/a", "+Service default/b"]
        );
        let again = load(&[("1.yaml", &a), ("3.yaml", &b)]);
        assert_eq!(store.apply(&again), []);
        let changed = load(&[("1.yaml", &service("a", 2))]);
        assert_eq!(
            told(&store.apply(&changed)),
            ["+Service default/a", "-Service default/b"]
        );
    }

    #[test]
    fn the_first_file_by_name_wins() {
        let mut store = Store::default();
        let (first, second) = (service("a", 1), service("a", 2));
        store.apply(&load(&[("2.yaml", &second), ("1.yaml", &first)]));
        assert_eq!(
            store.duplicates().iter().collect::<Vec<_>>(),
            ["2.yaml: line 2: Service default/a is defined before, ignored here"]
        );
        assert_eq!(store.count(), 1);
        let changes = store.apply(&load(&[("2.yaml", &second)]));
        assert_eq!(told(&changes), ["+Service default/a"]);
        assert_eq!(store.duplicates().len(), 0);
    }
}
