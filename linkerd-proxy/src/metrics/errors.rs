//! `*_errors_total`: what went wrong, by name. Belongs to one worker, so that a flood of errors takes
//! no lock.

use super::{Kept, Registry, label};
use metrics::Counter;
use std::sync::Arc;

/// One family.
pub struct Errors {
    registry: Arc<Registry>,
    family: &'static str,
    by_name: Kept<&'static str, Counter>,
}

impl Errors {
    /// None yet.
    pub fn new(registry: &Arc<Registry>, family: &'static str) -> Self {
        Self {
            registry: registry.clone(),
            family,
            by_name: Kept::default(),
        }
    }

    /// Counts an error that is called `name`.
    pub fn count(&self, name: &'static str) {
        let make = || {
            self.registry
                .counter(self.family, vec![label("error", name)])
        };
        self.by_name
            .with(name, make, |counter| counter.increment(1));
    }
}
