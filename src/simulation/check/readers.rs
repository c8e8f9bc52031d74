//! Each subscriber sees a contiguous run of messages, or is notified of each gap. It gets everything that
//! exists, nothing twice, and nothing that was never sent. A gap covers exactly the missing messages.

use std::collections::HashSet;

use super::Facts;
use crate::simulation::data::Id;
use crate::simulation::record::{Run, Told};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<String>) {
    for (number, run) in facts.world.record.runs.iter().enumerate() {
        let mut reader = Reader::new(facts, run);
        let (mut lasts, last) = (run.confirmed <= facts.world.asked_at_last, facts.world.head_at_last);
        for (order, told) in &run.told {
            if lasts && *order > facts.world.asked_at_last {
                lasts = false;
                if reader.position.1 != last.1 {
                    found
                        .push(format!("all reach the end: {:?} after quiet, head {last:?}", reader.position));
                }
            }
            if let Err(broken) = reader.told(*told) {
                found.push(format!("run {number} of client {}, at {order}: {broken}", run.client));
            }
        }
        if run.over.is_none() && !reader.rests_on_time() {
            reader.end(&mut |broken| found.push(format!("run {number} of client {}: {broken}", run.client)));
        }
    }
}

struct Reader<'a> {
    facts: &'a Facts<'a>,
    run: &'a Run,
    position: Id,
    begun: bool,
    /// The messages that it has and has not been told are gone.
    has: Vec<Id>,
    got: HashSet<Id>,
    /// The `seq` from which it must have got everything.
    start: u64,
    /// Set if it was told of a gap, so that it forgets the lost messages.
    told_of_gap: bool,
}

impl<'a> Reader<'a> {
    fn new(facts: &'a Facts<'a>, run: &'a Run) -> Self {
        Self {
            facts,
            run,
            position: run.position,
            begun: false,
            has: Vec::new(),
            got: HashSet::new(),
            start: run.position.1,
            told_of_gap: false,
        }
    }

    /// Returns whether only the time of its first position can show that the position is lost: the client
    /// names no history, and no entry of that history is left.
    fn rests_on_time(&self) -> bool {
        let known = self.facts.world.entries.get(&self.run.position);
        let known = known.filter(|_| self.facts.is_lost(self.run.position));
        let unsure = self.facts.world.clocks_differ || self.facts.world.split;
        unsure && known.is_some_and(|known| !self.facts.knows(known.server))
    }

    fn told(&mut self, told: Told) -> Result<(), String> {
        let position = self.position;
        match told {
            Told::Message(id, key) => {
                self.position = id;
                self.begun = true;
                // Before the first message, the time proves nothing.
                if id.1 != position.1 + 1 || (id < position && position.1 > 0) {
                    return Err(format!("no hole without a gap: {id:?} follows {position:?}"));
                }
                if self.facts.world.entries.get(&id).is_none_or(|known| known.key != key) {
                    return Err(format!("nothing that nobody sent: {id:?} is {key}"));
                }
                if self.has.contains(&id) {
                    return Err(format!("nothing twice: {id:?}"));
                }
                self.has.push(id);
                self.got.insert(id);
            }
            Told::Live(id) if id.1 != position.1 => {
                return Err(format!("live is true: live at {id:?}, position {position:?}"));
            }
            Told::Live(_) => {}
            Told::Gap(after, next, rewound) => {
                let at_start = !self.begun && self.run.began.named.is_some_and(|named| named.1 == after.1);
                let outcome = if after.1 != position.1 && !at_start {
                    Err(format!("a gap begins at the position: from {after:?}, position {position:?}"))
                } else if rewound {
                    self.rewound(next)
                } else {
                    self.trimmed(after, next)
                };
                self.position = (next.0, next.1.saturating_sub(1));
                self.begun = true;
                return outcome.map_err(|broken| format!("{broken} (gap from {after:?} to {next:?})"));
            }
        }
        Ok(())
    }

    fn trimmed(&mut self, after: Id, next: Id) -> Result<(), String> {
        self.told_of_gap = true;
        let Facts { world, there, log, .. } = self.facts;
        if !world.losses.is_empty() || world.deletions > 0 {
            // The subscriber drops the lost history.
            self.has.retain(|id| there.contains(id));
        }
        let gone = |id: &&Id| after.1 < id.1 && id.1 < next.1;
        let any = world.given.iter().filter(gone).any(|id| !there.contains(id) || world.entries[id].removed);
        if !any {
            return Err("nothing was trimmed".to_owned());
        }
        // A gap that an old server reports is one of the lost log.
        if self.facts.is_lost(next) || self.facts.is_lost((next.0, next.1.saturating_sub(1))) {
            return Ok(());
        }
        let is_there = |id: &&Id| gone(id) && after < **id && **id < next && !world.entries[*id].removed;
        let covered = log.iter().find(is_there);
        covered.map_or(Ok(()), |id| Err(format!("a gap covers only what is gone: {id:?} is there")))
    }

    fn rewound(&mut self, next: Id) -> Result<(), String> {
        self.told_of_gap = true;
        let Facts { world, .. } = self.facts;
        let shared = self.facts.shared(self.position);
        self.start = self.start.min(next.1.saturating_sub(1)).min(shared.1);
        let between = |id: &&Id| shared.1 < id.1 && id.1 < next.1 && world.entries[*id].removed;
        let cut = world.given.iter().any(|id| between(&id));
        // If messages were removed after the fork, one gap covers both.
        self.has.retain(|id| id.1 < next.1 && !(cut && self.facts.is_lost(*id)));
        if world.losses.is_empty() && world.deletions == 0 {
            return Err("nothing was lost".to_owned());
        }
        // A position that a client names identifies no history, nor does one of a history that left nothing
        // in the log. If several histories may have lost it, the earliest fork is used.
        let of = world.entries.get(&self.position).map(|known| known.server);
        let known = self.begun && of.is_none_or(|server| self.facts.knows(server));
        let several = world.split || world.losses.len() + world.deletions > 1;
        // Nor may a failover bring back the entry before which a position was constructed, right before one
        // that is lost now.
        let made_up = !self.begun && of.is_none();
        let ambiguous = !known && (several || made_up);
        if next.1.saturating_sub(1) < shared.1 && !ambiguous {
            return Err(format!("a gap covers only what is gone: {shared:?} is common to both histories"));
        }
        Ok(())
    }

    fn end(&self, broken: &mut impl FnMut(String)) {
        let Facts { world, there, log, head } = self.facts;
        if self.position.1 != head.1 {
            broken(format!("all reach the end: position {:?}, head {head:?}", self.position));
        }
        let began_at_lost = !self.told_of_gap && self.facts.is_lost(self.run.position);
        let at_lost = began_at_lost.then_some(&self.run.position);
        let gone = self.has.iter().chain(at_lost).find(|id| self.facts.is_lost(**id));
        if let Some(id) = gone {
            broken(format!("told of what is gone: {id:?} is, and no gap came"));
        }
        let missing = |id: &&Id| id.1 > self.start && !self.got.contains(id) && !world.entries[*id].removed;
        if let Some(id) = log.iter().find(missing) {
            broken(format!("all is delivered: {id:?} never was"));
        }
        // Nothing that was removed is delivered once all nodes know of it.
        let late = self.run.asked > world.asked_at_last;
        if late && let Some(id) = self.got.iter().find(|id| !there.contains(id)) {
            broken(format!("observers agree: {id:?} is not in the log"));
        }
    }
}
