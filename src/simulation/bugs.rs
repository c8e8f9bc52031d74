//! Bugs to plant where something is decided, each of which the simulation must find. A test switches one on, for its thread.

use std::cell::Cell;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A hole in a page is passed over without a word.
    FollowTellsNoGap,
    /// What is heard is taken for the next, whatever it says that it follows.
    TailTakesAnyRun,
    /// A page does not tell the tail of its epoch.
    PageKeepsEpoch,
    /// A head that differs leads to no read.
    CheckReadsNothing,
    /// What is in memory is believed after something was taken out of the log.
    RingOutlivesCut,
    /// A reader joins the tail wherever it is.
    JoinAnywhere,
    /// A message for which a socket has no room is left out.
    SlowReaderSkips,
    /// A reader that falls back goes on after what it did not get.
    FallsBackTooLate,
    /// A read does not ask whether the log has its position.
    ReadAsksNoFork,
    /// A page's head is read after its entries.
    HeadAfterEntries,
    /// Of two acknowledgements the one that came last counts.
    LastAckCounts,
    /// What waits to be acknowledged is not written when a subscription is given up.
    LeaveDropsAck,
    /// A position has a place in any log.
    PlaceForAnything,
    /// The epoch of a position is not looked at.
    ForkForgetsEpoch,
    /// No epoch begins when another server takes over.
    NoEpochBegins,
    /// Keys are not looked up.
    KeysAreForgotten,
    /// Keys are looked up in the window of the time alone.
    OldWindowIsForgotten,
    /// Anybody may acknowledge.
    AnybodyAcknowledges,
    /// An acknowledgement takes a position back.
    AckGoesBack,
    /// Who takes a subscription does not become its holder.
    TakeoverKeepsHolder,
    /// A cut has no name in the head.
    CutHasNoName,
    /// The time of what was deleted is forgotten.
    DeletionForgetsTime,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 22] = [
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

    /// The text of the library that it changes, and into what.
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

    /// Whether it is one of the library of functions.
    pub fn is_in_library(self) -> bool {
        self.change().is_some()
    }

    /// The library with this bug.
    pub fn plant(self, source: &str) -> String {
        let Some((from, to)) = self.change() else { return source.to_owned() };
        assert!(source.contains(from), "{self:?} has no place in the library any more");
        source.replace(from, to)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// The bug that is planted on this thread.
pub fn planted() -> Option<Bug> {
    PLANTED.get()
}

/// Whether it is this one.
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
