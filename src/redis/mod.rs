//! Redis: the only place that knows the client library, the keys and the functions.
//!
//! `topology` finds the primaries, `shards` connects to each, `link` is one supervised connection, `wire`
//! sends pipelines over it, and `store` chooses the shard. The operations are in `log`, `positions`,
//! `subscriptions`, `rooms`, `nodes` and `revocations`. `reserve` tracks which Redis is full. `bell` decodes
//! notifications, `ears` and `line` subscribe to them. `embedded` runs a Redis as a child process.

pub mod acl;
pub mod bell;
mod dial;
pub mod due;
pub mod durability;
mod ears;
pub mod embedded;
pub(crate) mod functions;
mod inspect;
mod keys;
mod line;
mod link;
pub mod log;
mod map;
mod nodes;
mod positions;
mod redirect;
mod refusal;
mod reserve;
pub mod revocations;
pub mod rooms;
pub mod shards;
#[cfg(test)]
pub(crate) mod simulated;
pub mod store;
pub mod subscriptions;
mod topology;
mod wire;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use bell::ring;
pub use bell::{BellEvent, Ear, Ring, Signal};
pub use ears::Bell;
pub use inspect::inspect;
pub use line::Place;
pub use log::{AppendedBatch, Batch};
pub use refusal::ConnectError;
pub use revocations::NO_REVOCATION;
pub use rooms::RoomCursor;
pub use shards::Shard;
pub use store::{Failure, Store, StoreOptions};
pub use subscriptions::{Ack, AttachAt, Attached, Group, NotAttached, Stored};

pub use crate::log::retention::RoomFacts;
