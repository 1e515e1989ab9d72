//! What the proxy counts: the registry, and one module for each group of families.
//!
//! Names, labels and buckets are Linkerd's, so that its dashboards and `linkerd viz` queries work.
//! Handles are resolved when a stack is built, or when a status or an error is first met. Counters are relaxed
//! atomics and the only thing that workers share on the request path.

pub mod detect;
pub mod errors;
pub mod http;
pub mod identity;
mod kept;
pub mod labels;
pub mod process;
pub mod registry;
pub mod route;
pub mod tls;
pub mod transport;

use self::kept::Kept;

pub use self::registry::{Labels, Registry, label};
