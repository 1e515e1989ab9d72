//! `meshctl local` as a user runs it: the real binary, real processes, and nothing left behind.
//!
//! `life` is about processes and state, `identity` about who they are and the commands that show it.
//! What traffic does is tested elsewhere.

mod identity;
mod life;
mod user;
