//! Metrics, logs and traces for operators.

mod class;
pub(crate) mod logs;
mod metrics;
mod names;
mod process;
mod traces;

pub(crate) use class::Class;
pub(crate) use metrics::Metrics;
pub(crate) use names::{
    CanaryOutcome, CatchUpReason, Hole, Outcome, Path, Queue, RedisCall, Success, Transport,
};
pub use names::{Kind, Name};
pub use traces::Timed;
pub(crate) use traces::Traces;
