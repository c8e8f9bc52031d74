//! What operators see: metrics and logs.

pub mod logs;
mod metrics;
mod names;

pub use metrics::{Metrics, Shared};
pub use names::{CatchUpReason, Hole, Name, Outcome, Path, Queue, RedisCall, Transport};
