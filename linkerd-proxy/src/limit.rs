//! How many of something may be at once, on one worker. What is over is refused, never queued.

use std::{cell::Cell, rc::Rc};

/// A bound on what is in flight.
#[derive(Clone)]
pub struct Limit {
    max: usize,
    now: Rc<Cell<usize>>,
}

/// Room under a [`Limit`]; given back when dropped.
pub struct Room(Rc<Cell<usize>>);

impl Limit {
    /// At most `max`, but always one.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            now: Rc::default(),
        }
    }

    /// Takes room, if there is any.
    pub fn take(&self) -> Option<Room> {
        let now = self.now.get();
        (now < self.max).then(|| {
            self.now.set(now + 1);
            Room(self.now.clone())
        })
    }

    /// The bound.
    pub fn max(&self) -> usize {
        self.max
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let limit = Limit::new(2);
        let (a, b) = (limit.take(), limit.take());
        assert!(a.is_some() && b.is_some() && limit.take().is_none());
        drop(a);
        assert!(limit.take().is_some());
    }
}
