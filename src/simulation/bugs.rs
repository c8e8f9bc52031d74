//! Bugs to plant in decision points, each of which the simulation must find. A test enables one at a time,
//! for its own thread.

use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    /// A hole in a page is skipped silently.
    FollowTellsNoGap,
    /// Any live copies are taken for the next ones, regardless of the position that they follow.
    TailTakesAnyRun,
    /// A page does not update the tail's epoch.
    PageKeepsEpoch,
    /// A differing head does not trigger a read.
    CheckReadsNothing,
    /// The ring is still used after a deletion or trim.
    RingOutlivesCut,
    /// A reader joins the tail at any position.
    JoinAnywhere,
    /// A message is skipped if a socket has no space for it.
    SlowReaderSkips,
    /// A reader that falls back continues after the message that it did not get.
    FallsBackTooLate,
    /// A read does not check whether the log has its position.
    ReadAsksNoFork,
    /// A page's head is read after its entries.
    HeadAfterEntries,
    /// Of two acknowledgements, the later to arrive counts.
    LastAckCounts,
    /// Pending acknowledgements are not written when a subscription is left.
    LeaveDropsAck,
    /// Every position has a place in every log.
    PlaceForAnything,
    /// The epoch of a position is ignored.
    ForkForgetsEpoch,
    /// No epoch begins when another server takes over.
    NoEpochBegins,
    /// Keys are not looked up.
    KeysAreForgotten,
    /// Keys are looked up in the current window only.
    OldWindowIsForgotten,
    /// Anybody may acknowledge, not only the holder.
    AnybodyAcknowledges,
    /// An acknowledgement moves a position back.
    AckGoesBack,
    /// A takeover does not change the holder.
    TakeoverKeepsHolder,
    /// A deletion or trim leaves the head's `cut` unchanged.
    CutHasNoName,
    /// The time of a deleted message is forgotten.
    DeletionForgetsTime,
}

impl Bug {
    pub(crate) const ALL: [Self; 22] = [
        Self::FollowTellsNoGap,
        Self::TailTakesAnyRun,
        Self::PageKeepsEpoch,
        Self::CheckReadsNothing,
        Self::RingOutlivesCut,
        Self::JoinAnywhere,
        Self::SlowReaderSkips,
        Self::FallsBackTooLate,
        Self::ReadAsksNoFork,
        Self::HeadAfterEntries,
        Self::LastAckCounts,
        Self::LeaveDropsAck,
        Self::PlaceForAnything,
        Self::ForkForgetsEpoch,
        Self::NoEpochBegins,
        Self::KeysAreForgotten,
        Self::OldWindowIsForgotten,
        Self::AnybodyAcknowledges,
        Self::AckGoesBack,
        Self::TakeoverKeepsHolder,
        Self::CutHasNoName,
        Self::DeletionForgetsTime,
    ];

    /// Returns the text of the library that the bug replaces, and the replacement.
    fn change(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::PlaceForAnything => {
                ("if ms < from or ms > to then\n    return false", "if true then\n    return true")
            }
            Self::ForkForgetsEpoch => {
                ("local list = epoch ~= UNKNOWN and epochs(head) or {}", "local list = {}")
            }
            Self::NoEpochBegins => ("if epoch ~= history then", "if not epoch then"),
            Self::KeysAreForgotten => ("if at == window or at == window - 1 then", "if false then"),
            Self::OldWindowIsForgotten => {
                ("if at == window or at == window - 1 then", "if at == window then")
            }
            Self::AnybodyAcknowledges => (
                "local to = current == holder and moved_to(log, position, acked)",
                "held[n] = 1\n    local to = moved_to(log, position, acked)",
            ),
            Self::AckGoesBack => {
                ("local newer = ms > had_ms or (ms == had_ms and seq > had_seq)", "local newer = true")
            }
            Self::TakeoverKeepsHolder => (
                "redis.call('HSET', subs, group, subscription(position, holder))\n  mirror(log, group, position)",
                "redis.call('HSET', subs, group, subscription(position, before or holder))\n  mirror(log, group, position)",
            ),
            Self::CutHasNoName => ("redis.call('HSET', head, 'cut', cut[2])", ""),
            Self::DeletionForgetsTime => ("deleted_ms = math.max(deleted_ms, ms)", ""),
            _ => return None,
        })
    }

    pub(crate) fn is_in_library(self) -> bool {
        self.change().is_some()
    }

    pub(crate) fn plant(self, source: &str) -> String {
        let Some((from, to)) = self.change() else { return source.to_owned() };
        assert!(source.contains(from), "{self:?} has no place in the library any more");
        source.replace(from, to)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(crate) fn planted() -> Option<Bug> {
    PLANTED.get()
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
