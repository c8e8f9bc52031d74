//! How far users have read.

use crate::protocol::MessageId;

/// How far a user has read a room. Computed from dense ids, so it is exact under deletion and retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// The newest id ever given; `0-0` before the first.
    pub head: MessageId,
    /// The user has read everything up to this id. `None` if there is no position, or only messages before
    /// it.
    pub read: Option<MessageId>,
    /// The number of retained messages after that.
    pub unread: u64,
}
