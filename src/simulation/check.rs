//! The promises, checked against the events of a schedule with the rules of the torture runs' checker. Some
//! are stricter, since everything is known here, including each entry's place in its history.

mod durable;
mod readers;

use std::collections::{HashMap, HashSet};

use super::data::Id;
use super::record::Order;
use super::world::World;

struct Facts<'a> {
    world: &'a World,
    log: Vec<Id>,
    there: HashSet<Id>,
    head: Id,
}

pub(super) fn check(world: &World) -> Vec<String> {
    let log = world.log();
    let facts = Facts { world, there: log.iter().copied().collect(), log, head: world.head() };
    let mut found: Vec<String> = world.record.wrong.iter().chain(&world.wrong).cloned().collect();
    publishes(&facts, &mut found);
    readers::check(&facts, &mut found);
    durable::check(&facts, &mut found);
    found
}

impl Facts<'_> {
    /// Returns whether writes made between these moments may be lost.
    fn may_be_lost(&self, from: Order, till: Order) -> bool {
        self.world.losses.iter().any(|loss| from <= loss.till && loss.from <= till)
    }

    /// Returns whether an entry was lost: the surviving log never had it.
    fn is_lost(&self, id: Id) -> bool {
        self.world.entries.get(&id).is_some_and(|known| known.deleted || !self.world.inherited(known))
    }

    /// Returns whether the surviving log has, or had, an entry of this server.
    fn knows(&self, server: usize) -> bool {
        self.world.entries.values().any(|known| known.server == server && self.world.inherited(known))
    }

    /// Returns the newest id that a position's history shares with the surviving log: the position itself, if
    /// it is not lost.
    fn shared(&self, position: Id) -> Id {
        let entries = &self.world.entries;
        let mut id = position;
        // A position right before an entry, which servers construct themselves.
        if let (None, Some(next)) = (entries.get(&id), entries.get(&(id.0, id.1 + 1))) {
            id = next.after.filter(|_| self.is_lost((id.0, id.1 + 1))).unwrap_or(id);
        }
        while self.is_lost(id) {
            match self.world.entries.get(&id).and_then(|known| known.after) {
                Some(after) => id = after,
                None => return (0, 0),
            }
        }
        id
    }
}

fn publishes(facts: &Facts<'_>, found: &mut Vec<String>) {
    let record = &facts.world.record;
    let mut places: HashMap<u128, Vec<Id>> = HashMap::new();
    for id in &facts.log {
        if let Some(known) = facts.world.entries.get(id) {
            places.entry(known.key).or_default().push(*id);
        }
    }
    for (key, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        found.push(format!("stored once: {key} is at {places:?}"));
    }
    for publish in &record.publishes {
        let Some((order, outcome)) = publish.answered else { continue };
        let Some(id) = outcome else {
            if publish.asked > facts.world.asked_at_last {
                found.push(format!("all recovers: {} could not be published at the end", publish.key));
            }
            continue;
        };
        match facts.world.entries.get(&id) {
            Some(known) if known.key != publish.key => {
                found.push(format!("nothing that nobody sent: {id:?} is {}, not {}", known.key, publish.key));
            }
            Some(known) if facts.there.contains(&id) || known.removed || known.deleted => {}
            Some(_) if facts.may_be_lost(publish.asked, order) => {}
            Some(_) => found.push(format!("confirmed is stored: {} at {id:?} is gone", publish.key)),
            None => found.push(format!("confirmed is stored: nobody ever gave {id:?}")),
        }
    }
    // A message that was published after another was confirmed comes after it in the log.
    let stored = |id: &Id| facts.there.contains(id);
    for one in &record.publishes {
        let Some((confirmed, Some(first))) = one.answered else { continue };
        for other in record.publishes.iter().filter(|other| other.asked > confirmed) {
            let tried_before =
                record.publishes.iter().any(|tried| tried.key == other.key && tried.asked < confirmed);
            if let Some((_, Some(second))) = other.answered
                && !tried_before
                && second <= first
                && stored(&first)
                && stored(&second)
            {
                found.push(format!("in the order of publishing: {second:?} comes after {first:?}"));
            }
        }
    }
}
