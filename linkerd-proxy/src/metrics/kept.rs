//! Handles that can only be resolved when something is first met: a status, an outcome.

use std::cell::RefCell;

/// How many keys a set keeps handles for; others are looked up each time.
const MAX_KEPT: usize = 32;

/// Handles by a key that is known late; few, so a scan beats a hash. Belongs to one worker.
pub(super) struct Kept<K, V>(RefCell<Vec<(K, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(RefCell::new(Vec::new()))
    }
}

impl<K: PartialEq, V> Kept<K, V> {
    /// Uses the handle of `key`, made by `make` when it is not there yet.
    pub(super) fn with(&self, key: K, make: impl FnOnce() -> V, use_it: impl FnOnce(&V)) {
        let mut kept = self.0.borrow_mut();
        if let Some((_, value)) = kept.iter().find(|(k, _)| *k == key) {
            return use_it(value);
        }
        let value = make();
        use_it(&value);
        if kept.len() < MAX_KEPT {
            kept.push((key, value));
        }
    }
}
