//! Metrics, logs and traces for operators.

mod class;
pub mod logs;
mod metrics;
mod names;
mod process;
mod traces;

pub use class::Class;
pub use metrics::{Metrics, Shared};
pub use names::{
    CanaryOutcome, CatchUpReason, Hole, Kind, Name, Outcome, Path, Queue, RedisCall, Success, Transport,
};
pub use traces::{Timed, Traces};
