//! Redis: the only place that knows the client library, the keys and the functions.
//!
//! `topology` finds the primaries, `shards` connects to each, `link` is one supervised connection, `wire`
//! sends pipelines over it, and `store` chooses the shard. The operations are in `log`, `positions`,
//! `durable`, `reads`, `rooms`, `nodes` and `revocations`; `calls` groups those for many rooms. `reserve` tracks which Redis is full. `notification`
//! decodes notifications, `pubsub` and `line` subscribe to them. `embedded` runs a Redis as a child process.

pub(crate) mod acl;
mod calls;
mod dial;
pub(crate) mod due;
pub(crate) mod durability;
pub(crate) mod durable;
pub(crate) mod embedded;
mod errors;
pub(crate) mod functions;
mod inspect;
mod keys;
mod line;
mod link;
pub(crate) mod log;
mod map;
mod nodes;
pub(crate) mod notification;
mod positions;
mod pubsub;
mod reads;
mod redirect;
mod reserve;
pub(crate) mod revocations;
pub(crate) mod rooms;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod shards;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod store;
mod topology;
mod wire;

pub(crate) use durable::{Ack, DurableRecord};
pub(crate) use errors::Unusable;
pub(crate) use inspect::inspect;
pub(crate) use line::Place;
pub(crate) use log::{AppendedBatch, Batch};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use notification::decode;
pub(crate) use notification::{Notification, OnEvent, PubSubEvent};
pub(crate) use pubsub::PubSub;
pub(crate) use reads::ReadUpTo;
pub(crate) use revocations::NO_REVOCATION;
pub(crate) use rooms::RoomCursor;
pub(crate) use shards::Shard;
pub(crate) use store::{Failure, Store, StoreOptions};

pub(crate) use crate::log::retention::RoomFacts;
