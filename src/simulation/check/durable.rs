//! A confirmed acknowledgement is never undone, and a durable subscription has one holder at a time.

use super::Facts;
use crate::simulation::record::{Ack, Run};
use crate::simulation::world::{LOG, SUBS};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<String>) {
    let record = &facts.world.record;
    let firm: Vec<&Ack> = record.acks.iter().filter(|ack| is_firm(facts, ack)).collect();
    for run in record.runs.iter().filter(|run| run.began.durable) {
        let before = firm.iter().filter(|ack| ack.answered.is_some_and(|(at, _)| at < run.asked));
        if let Some(ack) = before.max_by_key(|ack| ack.id.1).filter(|ack| run.position.1 < ack.id.1) {
            found.push(format!(
                "an ack is not undone: {:?}, the next holder begins at {:?}",
                ack.id, run.position
            ));
        }
    }
    at_the_end(facts, &firm, found);
    holders(facts, found);
}

/// Returns true if nothing may undo the acknowledgement: it was confirmed, and neither it nor its message can
/// have been lost or deleted.
fn is_firm(facts: &Facts<'_>, ack: &Ack) -> bool {
    let Some((order, true)) = ack.answered else { return false };
    let deleted = facts.world.entries.get(&ack.id).is_none_or(|known| known.deleted);
    !deleted && !facts.may_be_lost(ack.asked, order) && !facts.is_lost(ack.id)
}

/// Checks the final position in Redis, and its mirror in the consumer group.
fn at_the_end(facts: &Facts<'_>, firm: &[&Ack], found: &mut Vec<String>) {
    let data = facts.world.newest();
    let stored = data.hash(SUBS).first();
    let position = stored.map(|(_, value)| String::from_utf8_lossy(value));
    let position = position.as_ref().and_then(|value| value.split(' ').next());
    let seq = position.and_then(|id| id.split_once('-')?.1.parse::<u64>().ok());
    if let Some(ack) = firm.iter().max_by_key(|ack| ack.id.1)
        && seq.is_none_or(|seq| seq < ack.id.1)
    {
        found.push(format!("an ack is not undone: {:?}, the position at the end is {position:?}", ack.id));
    }
    let mirror = data.stream(LOG).and_then(|log| log.groups.first());
    if let (Some((group, _)), Some(mirror), Some(position)) = (stored, mirror, position)
        && (*group != mirror.0 || position.as_bytes() != &*mirror.1)
    {
        let at = String::from_utf8_lossy(&mirror.1);
        found.push(format!("the group mirrors the position: {position}, and the group is at {at}"));
    }
}

/// Checks that a holder that lost a subscription acknowledges nothing any more, and that the current one can.
fn holders(facts: &Facts<'_>, found: &mut Vec<String>) {
    let record = &facts.world.record;
    let runs = || record.runs.iter().filter(|run| run.began.durable);
    let is_sure = |run: &Run| facts.world.deletions == 0 && !facts.may_be_lost(run.asked, run.confirmed);
    for ack in &record.acks {
        let (Some(of), Some((_, true))) = (ack.run, ack.answered) else { continue };
        let of = &record.runs[of];
        let newer = runs().find(|run| of.confirmed < run.asked && run.confirmed < ack.asked && is_sure(run));
        if let Some(newer) = newer {
            found.push(format!(
                "one holder at a time: client {} acknowledged {:?}, though client {} had taken the subscription",
                of.client, ack.id, newer.client
            ));
        }
    }
    let last = runs().max_by_key(|run| run.confirmed).filter(|run| run.over.is_none() && is_sure(run));
    let Some(last) =
        last.filter(|last| runs().all(|run| std::ptr::eq(run, *last) || run.confirmed < last.asked))
    else {
        return;
    };
    for ack in record.acks.iter().filter(|ack| ack.asked > facts.world.asked_at_last) {
        let is_last = ack.run.is_some_and(|run| std::ptr::eq(&record.runs[run], last));
        // A lost message cannot be acknowledged.
        if is_last && !facts.is_lost(ack.id) && ack.answered.is_none_or(|(_, ok)| !ok) {
            found.push(format!("the holder can acknowledge: client {} could not", last.client));
        }
    }
}
