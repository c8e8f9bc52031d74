//! Tests of when positions are due and what is reported for them, as properties of any order of events.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::log::DurableId;

const MS: Duration = Duration::from_millis(1);

fn room(n: usize) -> RoomName {
    format!("room{n}").parse().unwrap()
}

fn lease(n: usize) -> Lease {
    let durable = DurableId::new(&"ann".parse().unwrap(), &"phone".parse().unwrap());
    Lease { durable, holder: format!("node/session/{n}") }
}

fn acked(seq: u64, waiting: &[u64]) -> Acked<u64> {
    let id = MessageId::new(1, seq);
    Acked { id, waiting: waiting.iter().map(|number| (id, *number)).collect() }
}

fn waiting(acked: &Acked<u64>) -> impl Iterator<Item = u64> {
    acked.waiting.iter().map(|(_, number)| *number)
}

fn note(slots: &mut Slots<u64>, seq: u64, waiting: &[u64], now: Instant) -> bool {
    slots.note(&room(0), &lease(0), By::Request, acked(seq, waiting), now)
}

fn due(slots: &mut Slots<u64>, now: Instant) -> Option<Acked<u64>> {
    let batch = slots.take_due(now).pop()?;
    Some(batch.acks.into_iter().next().unwrap().2)
}

fn end(slots: &mut Slots<u64>, failed: Option<Acked<u64>>, now: Instant) {
    slots.written(&room(0), [(lease(0), failed)], now);
}

#[test]
fn the_first_ack_is_due_at_once_and_later_ones_once_an_interval() {
    let (mut slots, start) = (Slots::new(), Instant::now());
    assert!(note(&mut slots, 1, &[], start), "the next due time changes");
    assert_eq!(due(&mut slots, start), Some(acked(1, &[])));
    end(&mut slots, None, start + 5 * MS);
    note(&mut slots, 2, &[], start + 10 * MS);
    note(&mut slots, 4, &[], start + 11 * MS);
    note(&mut slots, 3, &[], start + 12 * MS);
    assert_eq!(due(&mut slots, start + 999 * MS), None);
    assert_eq!(due(&mut slots, start + INTERVAL), Some(acked(4, &[])));
}

#[test]
fn awaited_acks_are_due_sooner_and_all_are_due_at_shutdown() {
    let (mut slots, start) = (Slots::new(), Instant::now());
    note(&mut slots, 1, &[], start);
    due(&mut slots, start).unwrap();
    end(&mut slots, None, start);
    note(&mut slots, 2, &[], start + MS);
    note(&mut slots, 3, &[7], start + 2 * MS);
    assert_eq!(due(&mut slots, start + 249 * MS), None);
    assert_eq!(due(&mut slots, start + INTERVAL_AWAITED), Some(acked(3, &[7])));
    end(&mut slots, None, start + 260 * MS);
    note(&mut slots, 4, &[], start + 270 * MS);
    slots.hurry(start + 280 * MS);
    assert_eq!(due(&mut slots, start + 280 * MS), Some(acked(4, &[])));
}

#[test]
fn a_release_during_a_write_gets_the_remainder() {
    for failed in [None, Some(acked(1, &[]))] {
        let (mut slots, start) = (Slots::new(), Instant::now());
        note(&mut slots, 1, &[1], start);
        due(&mut slots, start).unwrap();
        note(&mut slots, 2, &[2], start);
        let Taken::Later(mut left) = slots.take(&room(0), &lease(0)) else { panic!("it is not written") };
        assert!(left.try_recv().is_err(), "the write is under way");
        end(&mut slots, failed, start);
        assert_eq!(left.try_recv(), Ok(Some(acked(2, &[2]))));
        assert_eq!(due(&mut slots, start + INTERVAL), None);
    }
}

#[test]
fn a_room_without_pending_acks_is_removed() {
    let (mut slots, start) = (Slots::new(), Instant::now());
    note(&mut slots, 1, &[], start);
    due(&mut slots, start).unwrap();
    end(&mut slots, None, start);
    assert_eq!(slots.rooms.len(), 1, "it keeps the time of its last write");
    assert_eq!(due(&mut slots, start + INTERVAL), None);
    assert_eq!((slots.rooms.len(), slots.queue.len()), (0, 0));
}

type Key = (usize, usize);

#[derive(Debug, Clone)]
enum Step {
    Note { room: usize, holder: usize, awaited: bool },
    Pass(u64),
    End { which: usize, fails: bool },
    Leave { room: usize, holder: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (room, holder) = (0..3usize, 0..3usize);
    prop_oneof![
        4 => (room.clone(), holder.clone(), any::<bool>())
            .prop_map(|(room, holder, awaited)| Step::Note { room, holder, awaited }),
        3 => (0..600u64).prop_map(Step::Pass),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, fails)| Step::End { which, fails }),
        1 => (room, holder).prop_map(|(room, holder)| Step::Leave { room, holder }),
    ]
}

proptest! {
    /// Each acknowledgement is written, or handed to the caller that gives up the subscription. Each waiting
    /// client is notified once, and a room has at most one write in progress.
    #[test]
    fn no_ack_is_lost_and_no_client_is_notified_twice(steps in prop::collection::vec(step(), 1..200)) {
        let (mut slots, mut now) = (Slots::new(), Instant::now());
        let (mut next, mut told) = (0u64, Vec::new());
        let mut newest: HashMap<Key, MessageId> = HashMap::new();
        let mut stored: HashMap<Key, MessageId> = HashMap::new();
        let mut under_way: Vec<Batch<u64>> = Vec::new();
        let mut leaving: Vec<(Key, oneshot::Receiver<Option<Acked<u64>>>)> = Vec::new();
        let number = |name: &str| name[name.len() - 1..].parse::<usize>().unwrap();
        let quiet = (0..12).map(|_| Step::Pass(1000)).collect::<Vec<_>>();
        for step in steps.into_iter().chain(quiet) {
            let settles = matches!(step, Step::Pass(1000));
            let mut ends: Vec<(usize, bool)> = Vec::new();
            match step {
                Step::Note { room: r, holder, awaited } => {
                    next += 1;
                    let waiting: &[u64] = if awaited { &[next] } else { &[] };
                    slots.note(&room(r), &lease(holder), By::Request, acked(next, waiting), now);
                    newest.insert((r, holder), MessageId::new(1, next));
                    if !awaited { told.push(next); }
                }
                Step::Pass(ms) => now += ms as u32 * MS,
                Step::End { which, fails } if !under_way.is_empty() => ends.push((which % under_way.len(), fails)),
                Step::End { .. } => {}
                Step::Leave { room: r, holder } => match slots.take(&room(r), &lease(holder)) {
                    Taken::Now(Some(acked)) => {
                        told.extend(waiting(&acked));
                        stored.insert((r, holder), acked.id);
                    }
                    Taken::Now(None) => {}
                    Taken::Later(left) => leaving.push(((r, holder), left)),
                },
            }
            if settles {
                ends.extend((0..under_way.len()).rev().map(|which| (which, false)));
            }
            for (which, fails) in ends {
                let batch = under_way.remove(which);
                let outcomes: Vec<_> = batch.acks.into_iter().map(|(lease, _, acked)| {
                    told.extend(waiting(&acked));
                    if fails {
                        return (lease, Some(Acked { id: acked.id, waiting: Vec::new() }));
                    }
                    stored.insert((number(batch.room.as_str()), number(&lease.holder)), acked.id);
                    (lease, None)
                }).collect();
                slots.written(&batch.room, outcomes, now);
            }
            leaving.retain_mut(|(key, left)| match left.try_recv() {
                Ok(left) => {
                    if let Some(acked) = left {
                        told.extend(waiting(&acked));
                        stored.insert(*key, acked.id);
                    }
                    false
                }
                // A later caller gave up the subscription too, and gets the remainder.
                Err(oneshot::error::TryRecvError::Closed) => false,
                Err(oneshot::error::TryRecvError::Empty) => true,
            });
            under_way.extend(slots.take_due(now));
            let rooms: std::collections::HashSet<_> = under_way.iter().map(|batch| &batch.room).collect();
            prop_assert_eq!(rooms.len(), under_way.len(), "two writes of a room at a time");
        }
        told.sort_unstable();
        prop_assert_eq!(told, (1..=next).collect::<Vec<_>>());
        prop_assert_eq!(stored, newest);
        prop_assert!(slots.is_idle() && slots.rooms.is_empty() && slots.queue.is_empty());
    }
}
