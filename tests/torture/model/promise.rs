//! The promises of docs/operations/durability.md in a run: the times at which confirmed messages may be
//! lost, and those at which unconfirmed ones may be. Everything else must exist at the end.

use super::plan::{Durability, Fault, POWER_AFTER, Plan, Sync, Topology};
use super::record::{Event, Ms};

/// A time span in which something is allowed, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: Ms,
    pub to: Ms,
}

/// The violations that are allowed in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promise {
    /// Messages confirmed in these windows may be lost.
    pub losses: Vec<Window>,
    /// Messages delivered in these windows, and acknowledgements, may be lost. Subscribers are notified from
    /// then on.
    pub rewinds: Vec<Window>,
    /// In these windows there may be two primaries, each with its own history.
    pub splits: Vec<Window>,
    /// The times at which Redis began a new history.
    pub histories: Vec<Ms>,
}

/// "Up to two seconds of confirmed messages", plus one for a busy machine, in ms.
const EVERYSEC: Ms = 3000;

/// Time in ms for which nodes may stay connected to an old primary as such after it is back.
const DEMOTION: Ms = 20_000;

/// Returns whether the span shares an instant with one of the windows.
pub fn within(windows: &[Window], from: Ms, to: Ms) -> bool {
    windows.iter().any(|window| from <= window.to && window.from <= to)
}

impl Promise {
    /// Returns the violations that are allowed under this plan, with the times of the faults from the record.
    pub fn of(plan: &Plan, events: &[Event]) -> Self {
        let mut promise = Self::default();
        let faults: Vec<(Fault, Ms, Ms)> = events
            .iter()
            .filter_map(|event| match event {
                Event::Fault { at, till, index } => Some((plan.faults[*index].fault, *at, *till)),
                _ => None,
            })
            .collect();
        let unsynced: Vec<Window> = faults.iter().filter_map(|fault| unsynced(*fault)).collect();
        for (fault, at, till) in faults {
            promise.allow(plan, &unsynced, fault, at, till);
        }
        promise
    }

    fn allow(&mut self, plan: &Plan, unsynced: &[Window], fault: Fault, at: Ms, till: Ms) {
        if begins_a_history(fault) {
            self.histories.push(at);
        }
        // The time from which writes may be missing on disk, if Redis syncs each second.
        let since = |at: Ms| {
            let from = at.saturating_sub(EVERYSEC);
            let stopped = unsynced.iter().filter(|window| window.from <= at && from <= window.to);
            stopped.map(|window| window.from.saturating_sub(EVERYSEC)).min().unwrap_or(from).min(from)
        };
        match fault {
            Fault::PowerLoss if plan.sync == Sync::Everysec => {
                self.lose(Window { from: since(at + POWER_AFTER), to: till });
            }
            // Redis answers the writes of the round in which it detects the full disk.
            Fault::DiskFull { killed: true } if plan.sync == Sync::Everysec => {
                self.lose(Window { from: since(at), to: till });
            }
            Fault::PrimaryKill { .. } | Fault::PrimaryPause { .. } | Fault::Partition { .. } => {
                self.fail_over(plan, Window { from: at, to: till + DEMOTION });
            }
            // A cluster's primary waits for its replica when it is told to hand over. A sentinel promotes one
            // replica while the old primary is alive and has the other one, so "the replica that has it" is
            // not the promoted one.
            Fault::Failover { .. } if plan.topology == Topology::Sentinel => {
                let window = Window { from: at, to: till + DEMOTION };
                self.lose(window);
                self.splits.push(window);
            }
            _ => {}
        }
    }

    fn lose(&mut self, window: Window) {
        self.losses.push(window);
        self.rewinds.push(window);
    }

    fn fail_over(&mut self, plan: &Plan, window: Window) {
        if plan.durability != Durability::Replica {
            self.losses.push(window);
        }
        self.rewinds.push(window);
        self.splits.push(window);
    }
}

/// Returns the window in which `everysec` syncs nothing: Redis compares times of day, so after its clock has
/// stepped back it waits until the clock has caught up.
fn unsynced((fault, at, till): (Fault, Ms, Ms)) -> Option<Window> {
    match fault {
        Fault::RedisClock { ms: ahead @ 0.. } => Some(Window { from: till, to: till + ahead.unsigned_abs() }),
        Fault::RedisClock { ms: behind } => {
            Some(Window { from: at, to: till.min(at + behind.unsigned_abs()) })
        }
        _ => None,
    }
}

fn begins_a_history(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::RedisKill
            | Fault::RedisRestart
            | Fault::PowerLoss
            | Fault::DiskFull { killed: true }
            | Fault::PrimaryKill { .. }
            | Fault::PrimaryPause { .. }
            | Fault::Partition { .. }
            | Fault::Failover { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Dice;
    use crate::model::plan::Planned;

    fn plan(topology: Topology, sync: Sync, durability: Durability, fault: Fault) -> Plan {
        let mut plan = Plan::draw(Dice::new(1).next(), topology, 1);
        (plan.sync, plan.durability) = (sync, durability);
        plan.faults.truncate(1);
        plan.faults[0].fault = fault;
        plan
    }

    fn promise(topology: Topology, sync: Sync, durability: Durability, fault: Fault) -> Promise {
        let event = Event::Fault { at: 10_000, till: 16_000, index: 0 };
        Promise::of(&plan(topology, sync, durability, fault), &[event])
    }

    #[test]
    fn a_kill_loses_nothing_on_one_server() {
        for (sync, durability) in [(Sync::Always, Durability::Disk), (Sync::Everysec, Durability::Memory)] {
            let kill = promise(Topology::Single, sync, durability, Fault::RedisKill);
            assert_eq!(kill, Promise { histories: vec![10_000], ..Promise::default() });
        }
    }

    #[test]
    fn a_power_loss_loses_seconds_with_everysec_and_nothing_with_always() {
        let always = promise(Topology::Single, Sync::Always, Durability::Disk, Fault::PowerLoss);
        assert_eq!(always, Promise { histories: vec![10_000], ..Promise::default() });
        let everysec = promise(Topology::Single, Sync::Everysec, Durability::Memory, Fault::PowerLoss);
        assert_eq!(everysec.losses, [Window { from: 11_000, to: 16_000 }]);
        assert_eq!(everysec.losses, everysec.rewinds);
    }

    #[test]
    fn everysec_syncs_nothing_until_a_clock_that_stepped_back_has_caught_up() {
        let mut plan = plan(Topology::Single, Sync::Everysec, Durability::Memory, Fault::PowerLoss);
        let events =
            [(0, 5000, 6000), (1, 10_000, 16_000)].map(|(index, at, till)| Event::Fault { at, till, index });
        for (ms, from) in [(30_000, 3000), (2000, 11_000), (-30_000, 11_000)] {
            let power = plan.faults[0];
            plan.faults = vec![
                Planned { fault: Fault::RedisClock { ms }, ..power },
                Planned { fault: Fault::PowerLoss, ..power },
            ];
            assert_eq!(Promise::of(&plan, &events).losses, [Window { from, to: 16_000 }], "{ms}");
        }
    }

    #[test]
    fn a_failover_loses_no_replicated_message_but_may_cause_rewinds() {
        let fault = Fault::PrimaryKill { shard: 0, lag: 0 };
        let replica = promise(Topology::Sentinel, Sync::Everysec, Durability::Replica, fault);
        assert!(replica.losses.is_empty() && !replica.rewinds.is_empty());
        let memory = promise(Topology::Sentinel, Sync::Everysec, Durability::Memory, fault);
        assert!(within(&memory.losses, 30_000, 31_000) && !within(&memory.losses, 0, 9999));
    }
}
