//! Each subscriber sees a contiguous run of messages, or is notified of each gap. It gets everything in the
//! log, nothing twice, and nothing that was never sent. A gap covers only missing messages.

use std::collections::{BTreeMap, HashMap, HashSet};

use roomlog_protocol::MessageId;
use uuid::Uuid;

use super::{Found, Reader, Run, durable};
use crate::model::promise::within;
use crate::model::record::{Event, Ms, Publish, Reason};

pub(super) fn check(run: &Run<'_>, found: &mut Found) {
    for reader in run.readers.values() {
        for session in &reader.sessions {
            contiguous(reader, session.session, session.position, session.since, found);
        }
        let told = Told::of(reader);
        contents(run, reader, &told, found);
        complete(run, reader, &told, found);
        gaps(run, reader, &told, found);
    }
}

/// A gap that a subscriber was notified of.
#[derive(Debug, Clone, Copy)]
struct Gap {
    order: usize,
    session: u64,
    /// Set if it follows a position that the client named, by its id alone.
    named: bool,
    at: Ms,
    after: MessageId,
    next: MessageId,
    reason: Reason,
}

/// Everything that a subscriber received.
#[derive(Debug, Default)]
struct Told {
    /// Each message with its place among all events, and its session, at its first delivery.
    messages: BTreeMap<MessageId, (usize, u64)>,
    gaps: Vec<Gap>,
}

impl Told {
    fn of(reader: &Reader<'_>) -> Self {
        let mut told = Self::default();
        let (mut session, mut has_begun) = (0, false);
        for seen in &reader.seen {
            has_begun &= seen.session == session;
            session = seen.session;
            match *seen.event {
                Event::Message { ref message, .. } => {
                    told.messages.entry(message.id).or_insert((seen.order, session));
                }
                Event::Gap { at, after, next, reason, .. } => {
                    let named = reader.by_request || !(has_begun || reader.durable);
                    told.gaps.push(Gap { order: seen.order, session, named, at, after, next, reason });
                }
                _ => {}
            }
            has_begun = true;
        }
        told
    }

    /// Returns whether the subscriber was notified between these places that this message, or its
    /// replacement, will be delivered anew.
    fn rewound(&self, after: usize, before: usize, seq: u64) -> bool {
        self.gaps.iter().any(|gap| {
            gap.reason == Reason::Rewound && (after..before).contains(&gap.order) && gap.next.seq <= seq
        })
    }
}

/// Checks that a session is contiguous: each message follows the previous one, or a gap that named it as the
/// next.
fn contiguous(
    reader: &Reader<'_>,
    session: u64,
    told: MessageId,
    asked: Option<MessageId>,
    found: &mut Found,
) {
    let name = reader.name;
    let (mut position, mut begun) = (told, false);
    for seen in reader.seen.iter().filter(|seen| seen.session == session) {
        match seen.event {
            Event::Message { at, message, .. } => {
                let id = message.id;
                if id.seq != position.seq + 1 || id < position {
                    found.add(
                        "no hole without a gap",
                        format!("{name} ({session}) at {at} ms: {id} follows {position}"),
                    );
                }
                (position, begun) = (id, true);
            }
            Event::Gap { at, after, next, .. } => {
                let at_start = !begun && asked.is_some_and(|asked| asked.seq == after.seq);
                if after.seq != position.seq && !at_start {
                    found.add(
                        "a gap begins at the position",
                        format!(
                            "{name} ({session}) at {at} ms: gap from {after} to {next}, position {position}"
                        ),
                    );
                }
                (position, begun) = (next.predecessor(), true);
            }
            Event::Live { at, id, .. } if id.seq != position.seq => {
                found.add(
                    "live is true",
                    format!("{name} ({session}) at {at} ms: live at {id}, position {position}"),
                );
            }
            _ => {}
        }
    }
}

/// Checks that every delivered message was sent, and is delivered once.
fn contents(run: &Run<'_>, reader: &Reader<'_>, told: &Told, found: &mut Found) {
    let mut had: HashMap<Uuid, (usize, u64)> = HashMap::new();
    for seen in &reader.seen {
        let Event::Message { at, message, .. } = seen.event else { continue };
        let id = message.id;
        let tries = run.tries.get(&message.key).map_or(&[][..], Vec::as_slice);
        let is_it = |publish: &Publish| {
            publish.room == reader.room && publish.sent == message.sent && publish.at <= *at
        };
        if !tries.iter().any(|publish| is_it(publish)) {
            found.add(
                "nothing that nobody sent",
                format!("{} at {at} ms: {id} {} {:?}", reader.name, message.key, message.sent),
            );
        }
        if let Some((order, session)) = had.insert(message.key, (seen.order, seen.session)) {
            let again = reader.durable && session != seen.session;
            if !again && !told.rewound(order, seen.order, id.seq) {
                found.add("nothing twice", format!("{} at {at} ms: {id} {}", reader.name, message.key));
            }
        }
        let is_last = reader.sessions.last().is_some_and(|last| last.session == seen.session);
        if !run.has(reader.room, id) {
            if !run.may_be_gone(message.key) {
                found.add(
                    "delivered is stored",
                    format!("{} at {at} ms: {id} {} is not in the log", reader.name, message.key),
                );
            // A client that attaches a durable subscription is at a position that went back as well.
            } else if (!reader.durable || is_last) && !told.rewound(seen.order, usize::MAX, id.seq) {
                found.add(
                    "told of what is gone",
                    format!("{} at {at} ms: {id} is gone, and no gap came", reader.name),
                );
            }
        }
    }
}

/// Checks that everything in the log after the position was delivered.
fn complete(run: &Run<'_>, reader: &Reader<'_>, told: &Told, found: &mut Found) {
    let Some(log) = run.logs.get(reader.room) else { return };
    let start = reader.sessions.first().map_or(0, |first| first.position.seq);
    let rewound = told.gaps.iter().filter(|gap| gap.reason == Reason::Rewound);
    let start = rewound.map(|gap| gap.next.seq.saturating_sub(1)).min().unwrap_or(start).min(start);
    let passed = durable::passed_over(run, reader);
    let missing: Vec<MessageId> = log
        .iter()
        .map(|message| message.id)
        .filter(|id| id.seq > start && !told.messages.contains_key(id) && !passed.contains(&id.seq))
        .collect();
    let covered: HashSet<MessageId> = missing
        .iter()
        .filter(|id| told.gaps.iter().any(|gap| gap.after.seq < id.seq && id.seq < gap.next.seq))
        .copied()
        .collect();
    for (rule, is_covered) in [("all is delivered", false), ("a gap covers only what is gone", true)] {
        let of_rule: Vec<_> = missing.iter().filter(|id| covered.contains(id) == is_covered).collect();
        if let (Some(first), Some(last)) = (of_rule.first(), of_rule.last()) {
            found.add(
                rule,
                format!("{} never got {} messages, {first} to {last}", reader.name, of_rule.len()),
            );
        }
    }
}

/// Checks that gaps are reported only where messages are missing.
fn gaps(run: &Run<'_>, reader: &Reader<'_>, told: &Told, found: &mut Found) {
    for gap in &told.gaps {
        let text =
            format!("{} at {} ms: {:?} from {} to {}", reader.name, gap.at, gap.reason, gap.after, gap.next);
        match gap.reason {
            Reason::Trimmed => found.add("nothing was trimmed", text),
            Reason::Rewound if !run.promise.rewinds.iter().any(|window| window.from <= gap.at) => {
                found.add("nothing was lost", text);
            }
            Reason::Rewound => {
                let split = within(&run.promise.splits, gap.at, gap.at);
                let there = told.messages.iter().rev().find(|(id, (order, session))| {
                    // A gap may have been reported to an earlier holder of a durable subscription as well as
                    // to the next.
                    let same = !reader.durable || *session == gap.session;
                    same && *order < gap.order && id.seq >= gap.next.seq && run.has(reader.room, **id)
                });
                if let (false, Some((id, _))) = (split || (gap.named && run.several_histories(gap.at)), there)
                {
                    found.add("a gap covers only what is gone", format!("{text}, but {id} is there"));
                }
            }
        }
    }
}
