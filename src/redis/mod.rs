//! Redis: the only place that knows the client library, the keys and the functions.
//!
//! `link` is a supervised connection, `store` how commands go over it, and `log`, `subscriptions`, `rooms`, `nodes` and
//! `revocations` are the operations; `reserve` knows which Redis is full; `bell` hears what happens live; `embedded` runs a Redis of our own.

pub mod acl;
pub mod bell;
pub mod durability;
pub mod embedded;
mod functions;
mod inspect;
mod keys;
pub mod link;
pub mod log;
mod nodes;
mod refusal;
mod reserve;
pub mod revocations;
pub mod rooms;
pub mod store;
pub mod subscriptions;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use bell::ring;
pub use bell::{Bell, BellEvent, Ear, Ring, Signal};
pub use inspect::inspect;
pub use log::Batch;
pub use refusal::ConnectError;
pub use rooms::RoomCursor;
pub use store::{Store, StoreOptions};
pub use subscriptions::{Ack, AttachAt, Group, NotAttached, Stored};

pub use crate::log::retention::RoomFacts;
