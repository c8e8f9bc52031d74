//! A log, its tail and two readers, and all that can come between them: bells that are lost, repeated, late or out of
//! order, reads and checks that take their time or fail, retention, deletion, and a Redis that comes back without its
//! newest writes. Whatever happens, each reader is told every message once and in order, or of the gap.
//!
//! Assumed, because the connections see to it:
//! - an interruption is noticed before anything is heard that was appended after a rewind;
//! - once the tail has found its place again after an interruption, nothing arrives that was sent before the rewind;
//! - a read whose head and entries would be of Redis before and after a rewind fails;
//! - ids after a rewind have a later time than all before.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::model::{Log, Read};
use super::*;

/// A subscriber, who holds the server to its promise with everything that it is told.
struct Reader {
    start: MessageId,
    position: MessageId,
    got: BTreeSet<MessageId>,
    live: bool,
    /// Events that it still has room for while it is live.
    room: usize,
    read: Option<Read>,
}

impl Reader {
    fn new(position: MessageId, live: bool) -> Self {
        Self { start: position, position, got: BTreeSet::new(), live, room: usize::MAX, read: None }
    }

    fn told(&mut self, event: &Event, log: &Log) {
        match event {
            Event::Message(entry) => {
                let id = entry.id();
                assert!(
                    id > self.position && id.seq == self.position.seq + 1,
                    "{id} after {}",
                    self.position
                );
                assert!(self.got.insert(id), "{id} twice");
                self.position = id;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.after, self.position);
                match gap.reason {
                    GapReason::Trimmed => {
                        assert!(gap.next.seq > gap.after.seq + 1, "nothing is missing: {gap:?}");
                        assert!(log.trimmed.range(gap.after..gap.next).any(|id| *id > gap.after), "{gap:?}");
                    }
                    GapReason::Rewound => {
                        assert!(gap.next.seq <= gap.after.seq + 1, "{gap:?}");
                        assert!(log.rewound.range(..=gap.after.successor()).next().is_some(), "{gap:?}");
                        // It is told that these are lost; if a late bell brings one again, it is told so again.
                        self.got.retain(|id| *id < gap.next);
                    }
                }
                self.position = gap.next.predecessor();
            }
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    Append {
        count: usize,
        ms: u64,
        own: bool,
    },
    Trim(usize),
    Delete(usize),
    Rewind(usize),
    DeleteRoom,
    Open,
    Hear {
        which: usize,
        again: bool,
    },
    Lose(usize),
    Interrupt,
    Read,
    ReadFails,
    Check,
    CheckFails,
    CatchUp(usize),
    /// The second reader takes so many more events, and is then left behind.
    Slow(usize),
}

struct Simulation {
    log: Log,
    tail: Tail,
    /// The head that the tail opens at, once its answer is there.
    opening: Option<MessageId>,
    read: Option<Read>,
    check: Option<(Asked, Option<MessageId>)>,
    /// Rings on their way, each with the era that it was sent in.
    bells: Vec<(usize, Vec<Arc<Entry>>)>,
    /// The era of the latest interruption, and of the latest after which the tail found its place.
    noticed: usize,
    settled: usize,
    readers: [Reader; 2],
    page: usize,
}

impl Simulation {
    fn new(page: usize, ring: usize, start: usize) -> Self {
        let mut log = Log::new();
        let first = log.append(4, 0);
        let head = log.head;
        let second = first.get(start).map_or(head, |entry| entry.id().predecessor());
        Self {
            log,
            tail: Tail::new(limits(ring)),
            opening: Some(head),
            read: None,
            check: None,
            bells: vec![(0, first)],
            noticed: 0,
            settled: 0,
            readers: [Reader::new(head, true), Reader::new(second, false)],
            page,
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append { count, ms, own } => {
                let new = self.log.append(count, ms);
                // A node hears of its own appends twice.
                self.bells.extend((0..=usize::from(own)).map(|_| (self.log.era, new.clone())));
            }
            Op::Trim(count) => self.log.remove(0..count),
            Op::Delete(which) => self.log.remove(which..which + 1),
            Op::Rewind(writes) => self.log.rewind(writes),
            Op::DeleteRoom => self.log.delete(),
            Op::Open => self.open(),
            Op::Hear { which, again } => self.hear(which, again),
            Op::Lose(which) => {
                let which = which % self.bells.len().max(1);
                self.bells.drain(which..self.bells.len().min(which + 1));
            }
            Op::Interrupt => self.interrupt(),
            Op::Read => self.advance_read(),
            Op::ReadFails => {
                if self.read.take().is_some() {
                    self.tail.read_failed();
                }
            }
            Op::Check => self.advance_check(),
            Op::CheckFails => self.check = None,
            Op::CatchUp(reader) => self.catch_up(reader),
            Op::Slow(room) => self.readers[1].room = room,
        }
        if self.tail.trusted {
            self.settled = self.noticed;
        }
    }

    fn open(&mut self) {
        if let Some(head) = self.opening.take() {
            let step = self.tail.open(head);
            self.step(step);
        }
    }

    fn interrupt(&mut self) {
        self.noticed = self.log.era;
        self.tail.distrust();
    }

    fn hear(&mut self, which: usize, again: bool) {
        let Some(which) = which.checked_rem(self.bells.len()) else { return };
        let (era, entries) = self.bells[which].clone();
        if !again {
            self.bells.remove(which);
        }
        if era < self.settled {
            return;
        }
        if era > self.noticed {
            self.interrupt();
        }
        let step = self.tail.hear(&entries);
        self.step(step);
    }

    fn advance_read(&mut self) {
        match self.read.take() {
            Some(Read::Done(page)) => {
                let step = self.tail.take(&page);
                self.step(step);
            }
            Some(Read::Failed) => self.tail.read_failed(),
            read => self.read = read.map(|read| read.advance(&self.log, self.page)),
        }
    }

    fn advance_check(&mut self) {
        match self.check.take() {
            None => self.check = Some((self.tail.asking(), None)),
            Some((asked, None)) => self.check = Some((asked, Some(self.log.head))),
            Some((asked, Some(head))) => {
                let step = self.tail.check(asked, head);
                self.step(step);
            }
        }
    }

    /// What the hub does with a step.
    fn step(&mut self, step: Step) {
        for reader in self.readers.iter_mut().filter(|reader| reader.live) {
            if let Some(position) = step.leave_behind {
                assert_eq!(position, reader.position);
                reader.live = false;
            }
            for event in &step.events {
                reader.live &= reader.room > 0;
                if reader.live {
                    reader.room -= 1;
                    reader.told(event, &self.log);
                }
            }
            if reader.live {
                assert_eq!(reader.position, self.tail.position().unwrap_or(reader.position));
            }
        }
        if let Some(after) = step.read {
            assert!(self.read.is_none(), "one read at a time");
            self.read = Some(Read::Asked(after));
        }
    }

    /// The next thing that a reader of the hub does for a subscriber that is not live.
    fn catch_up(&mut self, which: usize) {
        let Some(head) = self.tail.position() else { return };
        let reader = &mut self.readers[which];
        let position = reader.position;
        match reader.read.take() {
            _ if reader.live => {}
            None if position == head => {
                reader.room = usize::MAX;
                reader.live = true;
            }
            None => {
                let near = self.tail.ring().after(position, self.page, usize::MAX);
                match near.filter(|_| position < head) {
                    Some(entries) => {
                        self.tell(which, &Page { after: position, entries, head, complete: false })
                    }
                    None => reader.read = Some(Read::Asked(position)),
                }
            }
            Some(Read::Done(page)) => {
                self.tell(which, &page);
                let reached = self.readers[which].position;
                if reached == position && reached > head {
                    let step = self.tail.hear_of(reached);
                    self.step(step);
                }
            }
            Some(Read::Failed) => {}
            Some(read) => reader.read = Some(read.advance(&self.log, self.page)),
        }
    }

    fn tell(&mut self, which: usize, page: &Page) {
        let (events, reached) = follow(page);
        let reader = &mut self.readers[which];
        events.iter().for_each(|event| reader.told(event, &self.log));
        assert_eq!(reader.position, reached);
    }

    /// Lets everything that is under way come to its end, without another bell, and compares with the log.
    fn settle(&mut self) {
        self.open();
        if self.noticed != self.log.era {
            self.interrupt();
        }
        self.check = None;
        self.finish_reads();
        (0..3).for_each(|_| self.advance_check());
        self.finish_reads();
        for which in 0..self.readers.len() {
            let mut left = 1000;
            while !self.readers[which].live {
                self.catch_up(which);
                left -= 1;
                assert!(left > 0, "a reader never meets the tail");
            }
        }
        assert_eq!(self.tail.position(), Some(self.log.head));
        assert!(self.tail.trusted);
        for reader in &self.readers {
            assert_eq!(reader.position, self.log.head);
            let kept = self.log.entries.iter().map(|entry| entry.id()).filter(|id| *id > reader.start);
            let missing: Vec<_> =
                kept.filter(|id| !reader.got.contains(id) && !self.log.trimmed.contains(id)).collect();
            assert!(missing.is_empty(), "lost without a word: {missing:?}");
        }
    }

    fn finish_reads(&mut self) {
        let mut left = 1000;
        while self.read.is_some() {
            self.advance_read();
            left -= 1;
            assert!(left > 0, "endless reading");
        }
    }
}

/// What happens to a log that loses nothing.
fn plain_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..4_usize, 0..3_u64, any::<bool>()).prop_map(|(count, ms, own)| Op::Append { count, ms, own }),
        1 => Just(Op::Open),
        12 => (0..8_usize, any::<bool>()).prop_map(|(which, again)| Op::Hear { which, again }),
        4 => (0..8_usize).prop_map(Op::Lose),
        1 => Just(Op::Interrupt),
        10 => Just(Op::Read),
        1 => Just(Op::ReadFails),
        5 => Just(Op::Check),
        1 => Just(Op::CheckFails),
        8 => (0..2_usize).prop_map(Op::CatchUp),
        2 => (0..3_usize).prop_map(Op::Slow),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        40 => plain_op(),
        1 => (1..6_usize).prop_map(Op::Trim),
        1 => (0..6_usize).prop_map(Op::Delete),
        2 => (1..5_usize).prop_map(Op::Rewind),
    ]
}

fn deletion() -> impl Strategy<Value = Op> {
    prop_oneof![60 => any_op(), 1 => Just(Op::DeleteRoom)]
}

fn run(page: usize, ring: usize, start: usize, history: &[Op]) -> Simulation {
    let mut simulation = Simulation::new(page, ring, start);
    history.iter().for_each(|op| simulation.run(op));
    simulation.settle();
    simulation
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn without_loss_in_the_log_every_message_comes_once_and_no_gap(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(plain_op(), 0..120),
    ) {
        // No gap: `Reader::told` finds no reason for one.
        let simulation = run(page, ring, start, &history);
        for reader in &simulation.readers {
            let all = simulation.log.entries.iter().map(|entry| entry.id());
            prop_assert!(all.filter(|id| *id > reader.start).eq(reader.got.iter().copied()));
        }
    }

    #[test]
    fn whatever_the_log_loses_is_told(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(any_op(), 0..120),
    ) {
        run(page, ring, start, &history);
    }

    #[test]
    fn a_deleted_room_begins_anew(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(deletion(), 0..120),
    ) {
        run(page, ring, start, &history);
    }
}
