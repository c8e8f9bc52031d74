//! A client of a Roomlog server: publishing exactly once and following rooms over one connection that comes
//! back automatically, and publishing, history and rooms over HTTP.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod backoff;
mod client;
mod connection;
mod driver;
mod error;
mod follower;
mod frames;
mod line;
mod manage;
mod outbox;
mod publication;
mod reader;
mod socket;
mod tail;
mod token;
mod types;

pub use self::client::Client;
pub use self::connection::{ConnectOptions, Connection, RoomHandle, State};
pub use self::error::Error;
pub use self::publication::{Publication, PublishError};
pub use self::tail::{Event, Tail, TailOptions};
pub use self::types::{
    DurableList, DurableSubscription, Message, NewMessage, Page, Published, Revocation, Room, RoomList,
};
pub use roomlog_protocol::frame::{Gap, GapReason};
pub use roomlog_protocol::request::{Range, Start};
pub use roomlog_protocol::{ErrorCode, Failure, MessageId, Pattern, RoomName, SubscriptionName};
