//! One buffer per worker for bytes that only pass by, so that connections need none of their own.

use std::cell::RefCell;

/// As much as a pipe holds, and enough for bulk transfers to be cheap.
pub const SIZE: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Lends the buffer; `f` can not hold it over an await, and must not call this again.
pub fn with<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buf| f(buf))
}
