//! Redis: the only place that knows the client library, the keys and the functions.
//!
//! `topology` finds the primaries, `shards` connects to each, `link` is one supervised connection, `wire`
//! sends pipelines over it, and `store` chooses the shard. The operations are in `log`, `positions`,
//! `durable`, `rooms`, `nodes` and `revocations`. `reserve` tracks which Redis is full. `notification` decodes
//! notifications, `pubsub` and `line` subscribe to them. `embedded` runs a Redis as a child process.

pub mod acl;
mod dial;
pub mod due;
pub mod durability;
pub mod durable;
pub mod embedded;
mod errors;
pub(crate) mod functions;
mod inspect;
mod keys;
mod line;
mod link;
pub mod log;
mod map;
mod nodes;
pub mod notification;
mod positions;
mod pubsub;
mod redirect;
mod reserve;
pub mod revocations;
pub mod rooms;
#[cfg(test)]
pub(crate) mod scripted;
pub mod shards;
#[cfg(test)]
pub(crate) mod simulated;
pub mod store;
mod topology;
mod wire;

pub use durable::{Ack, DurableRecord};
pub use errors::{ConnectError, Unusable};
pub use inspect::inspect;
pub use line::Place;
pub use log::{AppendedBatch, Batch};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use notification::decode;
pub use notification::{Notification, OnEvent, PubSubEvent};
pub use pubsub::PubSub;
pub use revocations::NO_REVOCATION;
pub use rooms::RoomCursor;
pub use shards::Shard;
pub use store::{Failure, Store, StoreOptions};

pub use crate::log::retention::RoomFacts;
