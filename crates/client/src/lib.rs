//! A client of a Roomlog server: publishing exactly once and following rooms over one WebSocket that connects
//! again by itself, and publishing, history and rooms over REST.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use roomlog_client::{Client, ConnectOptions, Event, Start, TailOptions};
//! use serde_json::json;
//!
//! let client = Client::new("http://127.0.0.1:8080", Some("the token"))?;
//! let connection = client.connect(ConnectOptions::default());
//! let room = connection.room("chat.general".parse()?);
//!
//! // Queued at once, and sent until the server confirms or refuses it.
//! let published = room.publish(json!({ "text": "hello" })).await?;
//! println!("stored as {}", published.id);
//!
//! let mut tail = room.tail(Some(Start::Last(10))).await?;
//! while let Event::Subscribed { .. } | Event::Message(_) = tail.next().await? {}
//!
//! let mut tail = connection.tail(TailOptions::new("news".parse()?)).await?;
//! loop {
//!     match tail.next().await? {
//!         Event::Message(message) if message.data == json!("stop") => break,
//!         Event::Message(message) => println!("{}: {}", message.from, message.data),
//!         Event::Gap(gap) => println!("messages after {} are lost; the next is {}", gap.after, gap.next),
//!         Event::Subscribed { .. } | Event::Live(_) | Event::Lost { .. } => {}
//!     }
//! }
//!
//! for message in connection.close(Duration::from_secs(5)).await {
//!     println!("not confirmed: {}", message.key);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Publishing exactly once
//! A message gets a key, a UUID, and waits in a bounded outbox in memory until the server has confirmed that it
//! is stored, or refused it for good. It is sent again with the same key after every lost connection, and
//! after refusals that are temporary, no sooner than the server asks. The server stores a key once.
//!
//! The messages of a room go one after the other, so they are stored in the order in which they were queued.
//! Rooms do not wait for each other.
//!
//! The server remembers a key for an hour, unless it is configured otherwise. A message that may have been
//! stored before a longer outage is looked for in the room's history before it is sent again. That needs a
//! token that may read the room, and a point to begin at: a message that this connection has published to the
//! room before, or a [`Tail`] that follows it.

#![warn(missing_docs)]

mod backoff;
mod client;
mod connection;
mod driver;
mod error;
mod follower;
mod frames;
mod line;
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
pub use self::types::{Message, NewMessage, Page, Published, Room, RoomList};
pub use roomlog_protocol::frame::{Gap, GapReason};
pub use roomlog_protocol::request::{Range, Start};
pub use roomlog_protocol::{ErrorCode, Failure, MessageId, Pattern, RoomName, SubscriptionName};
