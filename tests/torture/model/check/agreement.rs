//! After quiet, all observers agree, the log has no hole, and every subscriber has reached its end.

use std::collections::BTreeMap;

use super::{Found, Run};
use crate::model::record::{Event, Stored};
use roomlog_protocol::MessageId;

pub(super) fn check(run: &Run<'_>, found: &mut Found) {
    let mut first: BTreeMap<&str, (&str, &[Stored])> = BTreeMap::new();
    for event in run.events {
        match event {
            Event::Broken { at, rule, text } => found.add(rule, format!("{at} ms: {text}")),
            Event::History { room, observer, messages } => {
                let (other, theirs) = *first.entry(room).or_insert((observer, messages));
                if let Some(difference) = difference(theirs, messages) {
                    found.add("observers agree", format!("{room}: {other} and {observer}: {difference}"));
                }
            }
            _ => {}
        }
    }
    for (room, log) in &run.logs {
        let mut last = MessageId::ZERO;
        for message in *log {
            if message.id.seq != last.seq + 1 || message.id < last {
                found.add("no hole in the log", format!("{room}: {} follows {last}", message.id));
            }
            last = message.id;
        }
        for reader in run.readers.values().filter(|reader| reader.room == *room) {
            let reached = reader.seen.iter().rev().find_map(|seen| match seen.event {
                Event::Message { message, .. } => Some(message.id),
                _ => None,
            });
            if reached.is_none_or(|reached| reached != last) {
                found.add("all reach the end", format!("{} in {room}: {reached:?}, not {last}", reader.name));
            }
        }
    }
}

fn difference(one: &[Stored], other: &[Stored]) -> Option<String> {
    if let Some((a, b)) = one.iter().zip(other).find(|(a, b)| !same(a, b)) {
        return Some(format!("{} {} and {} {}", a.id, a.key, b.id, b.key));
    }
    (one.len() != other.len()).then(|| format!("{} and {} messages", one.len(), other.len()))
}

/// Contents are not compared for Redis itself, which is not asked for them.
fn same(one: &Stored, other: &Stored) -> bool {
    let unread = one.sent.is_empty() || other.sent.is_empty();
    one.id == other.id && one.key == other.key && (unread || one.sent == other.sent)
}
