//! The position of a reader of a room. Whatever the server sends after a reconnect, it ensures that each
//! message is delivered once, in order, or that a gap is reported. No I/O.

use roomlog_protocol::MessageId;
use roomlog_protocol::continuity::{follows, reason};
use roomlog_protocol::frame::{Gap, GapReason};

/// A reader positioned right after this message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader(pub MessageId);

/// The classification of a message for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The reader had it before.
    Known,
    /// The next message.
    Next,
    /// Messages before it are lost, and the server did not report that.
    After(Gap),
}

impl Reader {
    /// Checks the newest id of a confirmed subscription. If it is before the position, the server has lost
    /// messages.
    pub fn resume(&mut self, head: MessageId) -> Option<Gap> {
        let after = self.0;
        (head < after).then(|| {
            self.0 = head;
            Gap { after, next: head.successor(), reason: GapReason::Rewound }
        })
    }

    /// Classifies a received message, and advances to it.
    pub fn message(&mut self, id: MessageId) -> Verdict {
        let after = self.0;
        if id <= after {
            return Verdict::Known;
        }
        self.0 = id;
        if follows(after, id) {
            Verdict::Next
        } else {
            Verdict::After(Gap { after, next: id, reason: reason(after, id) })
        }
    }

    /// Handles a gap that the server reported. Returns `None` if the reader has passed it before.
    pub fn gap(&mut self, gap: Gap) -> Option<Gap> {
        let reached = gap.next.predecessor();
        if reached == self.0 || (gap.reason == GapReason::Trimmed && reached < self.0) {
            return None;
        }
        self.0 = reached;
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, seq: u64) -> MessageId {
        MessageId::new(ms, seq)
    }

    fn gap(after: MessageId, next: MessageId, reason: GapReason) -> Gap {
        Gap { after, next, reason }
    }

    #[test]
    fn messages_come_once_and_holes_are_told() {
        let mut reader = Reader(id(5, 1));
        assert_eq!(reader.message(id(5, 1)), Verdict::Known);
        assert_eq!(reader.message(id(6, 2)), Verdict::Next);
        let hole = gap(id(6, 2), id(7, 5), GapReason::Trimmed);
        assert_eq!(reader.message(id(7, 5)), Verdict::After(hole));
        let rewound = gap(id(7, 5), id(9, 3), GapReason::Rewound);
        assert_eq!(reader.message(id(9, 3)), Verdict::After(rewound));
    }

    #[test]
    fn a_gap_that_the_server_told_is_told_once() {
        let mut reader = Reader(id(5, 1));
        let told = gap(id(5, 1), id(9, 7), GapReason::Trimmed);
        assert_eq!(reader.gap(told), Some(told));
        assert_eq!(reader.message(id(9, 7)), Verdict::Next);
        assert_eq!(reader.gap(told), None);
    }

    #[test]
    fn a_redis_that_lost_messages_is_noticed_once() {
        let mut reader = Reader(id(9, 7));
        let told = gap(id(9, 7), id(8, 6), GapReason::Rewound);
        assert_eq!(reader.resume(id(8, 5)), Some(told));
        assert_eq!(reader.gap(told), None);
        assert_eq!(reader.message(id(7, 4)), Verdict::Known);
        assert_eq!(reader.message(id(10, 6)), Verdict::Next);
        assert_eq!(reader.resume(id(10, 6)), None);
    }
}
