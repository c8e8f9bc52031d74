//! The continuity proof of a reader: ids of a room are dense, so the next message has the next `seq`.

use crate::MessageId;
use crate::frame::GapReason;

/// Returns whether the message with this id comes right after the position, without a hole.
pub fn follows(position: MessageId, id: MessageId) -> bool {
    id > position && id.seq == position.seq + 1
}

/// Returns the reason why the log continues at `next` after a position that it does not follow.
pub fn reason(position: MessageId, next: MessageId) -> GapReason {
    if next.seq > position.seq { GapReason::Trimmed } else { GapReason::Rewound }
}
