//! A confirmed acknowledgement is never undone, no message up to it is delivered again to its holder, and a
//! position moves only by acknowledgements.

use std::collections::HashSet;

use roomlog_protocol::MessageId;

use super::{Found, Reader, Run};
use crate::model::promise::within;
use crate::model::record::{Event, Ms, Opened, Outcome};

#[derive(Debug, Clone, Copy)]
struct Ack {
    order: usize,
    session: u64,
    at: Ms,
    till: Ms,
    id: MessageId,
    confirmed: bool,
}

pub(super) fn check(run: &Run<'_>, found: &mut Found) {
    for reader in run.readers.values().filter(|reader| reader.durable) {
        let acks = acks(reader);
        let firm: Vec<Ack> = acks.iter().filter(|ack| is_firm(run, reader, ack)).copied().collect();
        for opened in &reader.sessions {
            let before = firm.iter().filter(|ack| ack.till < opened.at).max_by_key(|ack| ack.id.seq);
            if let Some(ack) = before.filter(|ack| opened.position.seq < ack.id.seq) {
                undone(reader, ack, &format!("{} at {} ms", opened.position, opened.till), found);
            }
        }
        redelivered(reader, &firm, found);
        unasked(run, reader, &acks, found);
        at_the_end(run, reader, &firm, found);
    }
}

/// Returns whether an acknowledgement is confirmed and must hold. For a lost message, it counts as far as all
/// histories that may have lost the message agree.
fn is_firm(run: &Run<'_>, reader: &Reader<'_>, ack: &Ack) -> bool {
    let counts_less = reader.by_request && !run.has(reader.room, ack.id) && run.several_histories(ack.till);
    ack.confirmed && !counts_less && !within(&run.promise.rewinds, ack.at, ack.till)
}

/// Returns the places in the log that a position skipped after Redis lost it, where that is allowed.
pub(super) fn passed_over(run: &Run<'_>, reader: &Reader<'_>) -> HashSet<u64> {
    if !reader.durable || !may_be_lost(run, reader) {
        return HashSet::new();
    }
    let acks = acks(reader);
    let jumps = reader.sessions.iter().filter_map(|opened| Some((reach(reader, &acks, opened)?, opened)));
    jumps.flat_map(|(reach, opened)| reach.seq + 1..=opened.position.seq).collect()
}

fn acks(reader: &Reader<'_>) -> Vec<Ack> {
    let ack = |seen: &super::Seen<'_>| match *seen.event {
        Event::Ack { at, till, session, id, ref outcome } => {
            let confirmed = matches!(outcome, Outcome::Ok(_));
            Some(Ack { order: seen.order, session, at, till, id, confirmed })
        }
        _ => None,
    };
    reader.seen.iter().filter_map(ack).collect()
}

/// Returns whether Redis may have lost this subscription.
fn may_be_lost(run: &Run<'_>, reader: &Reader<'_>) -> bool {
    reader.sessions.first().is_some_and(|first| within(&run.promise.rewinds, first.at, first.till))
}

fn undone(reader: &Reader<'_>, ack: &Ack, position: &str, found: &mut Found) {
    let text =
        format!("{}: {} was confirmed at {} ms, the position is {position}", reader.name, ack.id, ack.till);
    found.add("an ack is not undone", text);
}

fn redelivered(reader: &Reader<'_>, firm: &[Ack], found: &mut Found) {
    for opened in &reader.sessions {
        let mut rewound = false;
        for seen in reader.seen.iter().filter(|seen| seen.session == opened.session) {
            match seen.event {
                Event::Gap { .. } => rewound = true,
                Event::Message { at, message, .. } if !rewound => {
                    let ack = firm.iter().find(|ack| {
                        let its_holder =
                            ack.till < opened.at || (ack.session == opened.session && ack.order < seen.order);
                        its_holder && message.id.seq <= ack.id.seq
                    });
                    if let Some(ack) = ack {
                        let text = format!(
                            "{} ({}) at {at} ms: {} came after the ack of {}",
                            reader.name, opened.session, message.id, ack.id
                        );
                        found.add("nothing acknowledged comes again", text);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Returns the furthest position that is possible at the start of this session, if the reported one is
/// further.
fn reach(reader: &Reader<'_>, acks: &[Ack], opened: &Opened) -> Option<MessageId> {
    let first = reader.sessions.first()?;
    let acknowledged = acks.iter().filter(|ack| ack.at <= opened.till).map(|ack| ack.id);
    // A subscription that starts anew after a loss, further back, is at the position reported to it.
    let told = reader.sessions.iter().take_while(|other| other.session != opened.session);
    let reach = acknowledged.chain(told.map(|other| other.position)).max_by_key(|id| id.seq);
    let reach = reach.unwrap_or(first.position);
    (opened.session != first.session && opened.position.seq > reach.seq).then_some(reach)
}

fn unasked(run: &Run<'_>, reader: &Reader<'_>, acks: &[Ack], found: &mut Found) {
    if may_be_lost(run, reader) {
        return;
    }
    for opened in &reader.sessions {
        if let Some(reach) = reach(reader, acks, opened) {
            let text = format!(
                "{} at {} ms: {}, though nobody acknowledged beyond {reach}",
                reader.name, opened.till, opened.position
            );
            found.add("a position moves by acks alone", text);
        }
    }
}

fn at_the_end(run: &Run<'_>, reader: &Reader<'_>, firm: &[Ack], found: &mut Found) {
    let last = firm.iter().filter(|ack| run.has(reader.room, ack.id)).max_by_key(|ack| ack.id.seq);
    for event in run.events {
        let Event::Position { reader: name, position, .. } = event else { continue };
        if name != reader.name {
            continue;
        }
        match (position, last) {
            (Some(position), Some(ack)) if position.seq < ack.id.seq => {
                undone(reader, ack, &format!("{position} at the end"), found);
            }
            (None, Some(ack)) if !may_be_lost(run, reader) => undone(reader, ack, "gone at the end", found),
            _ => {}
        }
    }
}
