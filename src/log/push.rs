//! Frames for the present subscribers of a room.

use uuid::Uuid;

use crate::protocol::UserId;
use crate::protocol::frame::Frame;

/// A frame for the present subscribers of a room. Never stored, delivered at most once.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    pub frame: Frame,
    pub to: Option<UserId>,
    /// The session that does not get it: the sender's.
    pub except: Option<Uuid>,
}
