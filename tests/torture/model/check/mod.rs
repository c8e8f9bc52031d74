//! The checker: finds the promises that a record breaks. Pure, with a file for each kind of rule.

mod agreement;
mod durable;
mod publishes;
mod readers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use roomlog_protocol::MessageId;
use uuid::Uuid;

use super::plan::Plan;
use super::promise::{Promise, Window, within};
use super::record::{Event, Ms, Opened, Outcome, Publish, Stored};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, in a word or two.
    pub rule: String,
    /// A description.
    pub text: String,
}

/// Returns all violations in a record, in the order of the rules.
pub fn check(plan: &Plan, events: &[Event]) -> Vec<Violation> {
    let run = Run::new(plan, events);
    let mut found = Found::default();
    agreement::check(&run, &mut found);
    publishes::check(&run, &mut found);
    readers::check(&run, &mut found);
    durable::check(&run, &mut found);
    found.0
}

/// The violations found so far.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, rule: &str, text: String) {
        self.0.push(Violation { rule: rule.to_owned(), text });
    }
}

/// An event that a subscriber saw, with its place among all events.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    order: usize,
    session: u64,
    event: &'a Event,
}

/// A subscriber over all its sessions.
#[derive(Debug)]
struct Reader<'a> {
    name: &'a str,
    room: &'a str,
    durable: bool,
    by_request: bool,
    sessions: Vec<&'a Opened>,
    seen: Vec<Seen<'a>>,
}

/// A record, arranged for the rules.
#[derive(Debug)]
struct Run<'a> {
    events: &'a [Event],
    promise: Promise,
    /// The attempts to publish each key.
    tries: HashMap<Uuid, Vec<&'a Publish>>,
    /// The final logs.
    logs: BTreeMap<&'a str, &'a [Stored]>,
    /// The ids in the final logs.
    stored: HashSet<(&'a str, MessageId)>,
    readers: BTreeMap<&'a str, Reader<'a>>,
}

impl<'a> Run<'a> {
    fn new(plan: &Plan, events: &'a [Event]) -> Self {
        let mut run = Self {
            events,
            promise: Promise::of(plan, events),
            tries: HashMap::new(),
            logs: BTreeMap::new(),
            stored: HashSet::new(),
            readers: BTreeMap::new(),
        };
        let mut names: HashMap<u64, &str> = HashMap::new();
        for (order, event) in events.iter().enumerate() {
            match event {
                Event::Publish(publish) => run.tries.entry(publish.key).or_default().push(publish),
                Event::History { room, messages, .. } if !run.logs.contains_key(room.as_str()) => {
                    run.logs.insert(room, messages);
                    run.stored.extend(messages.iter().map(|message| (room.as_str(), message.id)));
                }
                Event::Opened(opened) => {
                    names.insert(opened.session, &opened.reader);
                    let reader = run.readers.entry(&opened.reader).or_insert_with(|| Reader {
                        name: &opened.reader,
                        room: &opened.room,
                        durable: opened.durable,
                        by_request: opened.by_request,
                        sessions: Vec::new(),
                        seen: Vec::new(),
                    });
                    reader.sessions.push(opened);
                }
                Event::Message { session, .. }
                | Event::Gap { session, .. }
                | Event::Live { session, .. }
                | Event::Ack { session, .. } => {
                    let reader = names.get(session).and_then(|name| run.readers.get_mut(name));
                    reader.expect("what is seen belongs to a session that was opened").seen.push(Seen {
                        order,
                        session: *session,
                        event,
                    });
                }
                _ => {}
            }
        }
        run
    }

    /// Returns whether this message is in the final log.
    fn has(&self, room: &'a str, id: MessageId) -> bool {
        self.stored.contains(&(room, id))
    }

    /// Returns whether several histories may have lost an id that was named at this time. It cannot be known
    /// which of them did.
    fn several_histories(&self, at: Ms) -> bool {
        self.promise.histories.iter().filter(|began| **began < at).count() > 1
    }

    /// Returns whether an attempt to publish this key may have been executed when its write could be lost.
    fn may_be_gone(&self, key: Uuid) -> bool {
        let tries = self.tries.get(&key).map_or(&[][..], Vec::as_slice);
        tries.iter().any(|publish| {
            let till = if matches!(publish.outcome, Outcome::Unknown(_)) { Ms::MAX } else { publish.till };
            within(&self.promise.rewinds, publish.at, till)
        })
    }

    fn lossy(&self, windows: &[Window], publish: &Publish) -> bool {
        within(windows, publish.at, publish.till)
    }
}
