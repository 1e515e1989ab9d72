//! HTTP as the proxy speaks it, on both sides, without knowing which direction it serves.

pub mod answer;
pub mod body;
pub mod classify;
pub mod client;
pub mod headers;
pub mod http1;
pub(crate) mod http2;
mod interim;
pub mod normalize;
pub mod orig_proto;
pub mod rescue;
pub mod server;
pub mod upgrade;
mod upload;

pub use self::{body::Body, upload::Upload};

/// A request as it came in.
pub type Request = http::Request<Upload>;

/// An answer as it goes out.
pub type Response = http::Response<Body>;
