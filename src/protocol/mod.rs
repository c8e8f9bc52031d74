//! The wire contract as types: ids, frames, the two encodings and the catalogue of codes. No I/O.

pub mod codes;
pub mod ids;
pub mod pattern;

pub use codes::{CloseCode, ErrorCode, Failure};
pub use ids::{MessageId, RoomName, SubscriptionName, UserId};
pub use pattern::Pattern;
