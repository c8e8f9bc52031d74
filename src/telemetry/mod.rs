//! What operators see: metrics and logs.

mod class;
pub mod logs;
mod metrics;
mod names;
mod process;

pub use class::Class;
pub use metrics::{Metrics, Shared};
pub use names::{
    CanaryOutcome, CatchUpReason, Hole, Kind, Name, Outcome, Path, Queue, RedisCall, Success, Transport,
};
