//! Simulation of a log, its tail and two readers, with everything that can come between them:
//! - notifications that are lost, repeated, late or out of order, or that come from replaced primaries;
//! - reads and checks that take time or fail;
//! - retention and deletion;
//! - a Redis that restarts or fails over without its newest writes, while the node stays with the old one.
//!
//! In every case, each reader gets every message of the log once and in order, or a gap.
//!
//! Nothing is assumed about the order in which connections break, recover and deliver. The only assumption:
//! ids after a deletion of the room have a later time than all before.

use proptest::prelude::*;

use super::model::{Message, Read, World};
use super::*;
use crate::log::Epoch;
use crate::protocol::frame::GapReason;

struct Reader {
    start: MessageId,
    position: MessageId,
    epoch: Epoch,
    got: Vec<Message>,
    gaps: usize,
    live: bool,
    /// Events that it has room for while it is live.
    room: usize,
    read: Option<Read>,
}

impl Reader {
    fn new(position: MessageId, live: bool) -> Self {
        Self {
            start: position,
            position,
            epoch: Epoch::UNKNOWN,
            got: Vec::new(),
            gaps: 0,
            live,
            room: usize::MAX,
            read: None,
        }
    }

    /// Receives an event. `branch` is that of the page, if the event came from one.
    fn receive(&mut self, event: &Event, world: &World, branch: usize) {
        match event {
            Event::Message(entry) => {
                let id = entry.id();
                assert!(
                    id > self.position && id.seq == self.position.seq + 1,
                    "{id} after {}",
                    self.position
                );
                assert!(!self.got.iter().any(|got| Arc::ptr_eq(got, entry)), "{id} twice");
                self.got.push(entry.clone());
                self.position = id;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.after, self.position);
                self.gaps += 1;
                let log = &world.branches[branch];
                match gap.reason {
                    GapReason::Trimmed => {
                        assert!(gap.next.seq > gap.after.seq + 1, "nothing is missing: {gap:?}");
                        let kept = log.kept.iter().map(|entry| entry.id());
                        let covered: Vec<_> = kept.filter(|id| gap.after < *id && *id < gap.next).collect();
                        assert!(covered.is_empty(), "{gap:?} covers {covered:?}");
                    }
                    GapReason::Rewound => {
                        // The gap reports these as lost. If a late notification delivers one again, another
                        // gap reports it again.
                        self.got.retain(|message| message.id().seq < gap.next.seq && log.has(message));
                    }
                }
                self.position = gap.next.predecessor();
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        count: usize,
        ms: u64,
        /// By this node, which also gets the answer.
        own: bool,
    },
    Trim(usize),
    Delete(usize),
    FailOver {
        lost: usize,
        partitioned: bool,
    },
    Heal,
    DeleteRoom,
    Open,
    Receive {
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
    /// The second reader accepts this many more events, and then falls behind.
    Slow(usize),
}

#[derive(Clone)]
enum Notified {
    Messages(Run),
    Cut(Cut),
}

struct Simulation {
    world: World,
    tail: Tail,
    opening: Option<Head>,
    read: Option<Read>,
    check: Option<(Asked, Option<Head>)>,
    notified: Vec<Notified>,
    readers: [Reader; 2],
    page: usize,
}

impl Simulation {
    fn new(page: usize, ring: usize, start: usize) -> Self {
        let mut world = World::new();
        let first = world.append(true, 4, 0);
        let head = world.log().head;
        let second = first.entries.get(start).map_or(head.id, |entry| entry.id().predecessor());
        Self {
            world,
            tail: Tail::new(limits(ring)),
            opening: Some(head),
            read: None,
            check: None,
            notified: vec![Notified::Messages(first)],
            readers: [Reader::new(head.id, true), Reader::new(second, false)],
            page,
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append { count, ms, own } => {
                let new = Notified::Messages(self.world.append(own, count, ms));
                // A node receives its own appends twice.
                self.notified.extend((0..=usize::from(own)).map(|_| new.clone()));
            }
            Op::Trim(count) => self.remove(0..count),
            Op::Delete(which) => self.remove(which..which + 1),
            Op::FailOver { lost, partitioned } => self.world.fail_over(lost, partitioned),
            Op::Heal => self.world.serving = self.world.current,
            Op::DeleteRoom => self.world.delete(),
            Op::Open => self.open(),
            Op::Receive { which, again } => self.receive(which, again),
            Op::Lose(which) => {
                let which = which % self.notified.len().max(1);
                self.notified.drain(which..self.notified.len().min(which + 1));
            }
            Op::Interrupt => self.tail.interrupt(),
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
    }

    fn remove(&mut self, range: std::ops::Range<usize>) {
        self.notified.extend(self.world.remove(range).map(Notified::Cut));
    }

    fn open(&mut self) {
        if let Some(head) = self.opening.take() {
            let step = self.tail.open(head);
            self.step(step, self.world.serving);
        }
    }

    fn receive(&mut self, which: usize, again: bool) {
        let Some(which) = which.checked_rem(self.notified.len()) else { return };
        let notified = self.notified[which].clone();
        if !again {
            self.notified.remove(which);
        }
        match notified {
            Notified::Messages(run) => {
                let step = self.tail.receive(&run);
                self.step(step, self.world.serving);
            }
            Notified::Cut(cut) => self.tail.evict(cut),
        }
    }

    fn advance_read(&mut self) {
        match self.read.take() {
            Some(Read::Done(page, branch)) => {
                let step = self.tail.take(&page);
                self.step(step, branch);
            }
            Some(Read::Failed) => self.tail.read_failed(),
            read => self.read = read.map(|read| read.advance(&self.world, self.page)),
        }
    }

    fn advance_check(&mut self) {
        match self.check.take() {
            None => self.check = Some((self.tail.asking(), None)),
            Some((asked, None)) => self.check = Some((asked, Some(self.world.served().head))),
            Some((asked, Some(head))) => {
                let step = self.tail.check(asked, head);
                self.step(step, self.world.serving);
            }
        }
    }

    fn step(&mut self, step: Step, branch: usize) {
        let epoch = self.tail.position().unwrap_or_default().epoch;
        for reader in self.readers.iter_mut().filter(|reader| reader.live) {
            if let Some(position) = step.leave_behind {
                assert_eq!(position.id, reader.position);
                reader.live = false;
            }
            for event in &step.events {
                reader.live &= reader.room > 0;
                if reader.live {
                    reader.room -= 1;
                    reader.receive(event, &self.world, branch);
                    reader.epoch = epoch;
                }
            }
            if reader.live {
                assert_eq!(reader.position, self.tail.position().map_or(reader.position, |at| at.id));
                reader.epoch = epoch;
            }
        }
        if let Some(position) = step.read {
            assert!(self.read.is_none(), "one read at a time");
            self.read = Some(Read::Asked(position));
        }
    }

    /// Performs the next action of the hub's reader for a subscriber that is not live.
    fn catch_up(&mut self, which: usize) {
        let Some(Position { id: head, epoch }) = self.tail.position() else { return };
        let reader = &mut self.readers[which];
        let position = reader.position;
        let from = Position { id: position, epoch: reader.epoch };
        let agrees = reader.epoch.agrees(epoch);
        match reader.read.take() {
            _ if reader.live => {}
            None if position == head && agrees => {
                reader.room = usize::MAX;
                reader.live = true;
                reader.epoch = epoch;
            }
            None => match self
                .tail
                .recent()
                .filter(|_| agrees)
                .and_then(|ring| ring.after(position, self.page, usize::MAX))
            {
                Some(entries) => {
                    let head = Head { id: head, epoch, cut: 0 };
                    let page = Page { after: from, fork: None, entries, head, complete: false };
                    self.deliver(which, &page, self.world.serving);
                }
                None => reader.read = Some(Read::Asked(from)),
            },
            Some(Read::Done(page, branch)) => {
                self.deliver(which, &page, branch);
                if page.fork.is_some() || self.readers[which].position == position {
                    let step = self.tail.compare(page.head, page.fork.is_some());
                    self.step(step, branch);
                }
            }
            Some(Read::Failed) => {}
            Some(read) => reader.read = Some(read.advance(&self.world, self.page)),
        }
    }

    fn deliver(&mut self, which: usize, page: &Page, branch: usize) {
        let (events, reached) = follow(page);
        let reader = &mut self.readers[which];
        events.iter().for_each(|event| reader.receive(event, &self.world, branch));
        assert!(reader.position == reached || (reader.position.seq, reached) == (0, MessageId::ZERO));
        reader.position = reached;
        reader.epoch = page.head.epoch;
    }

    /// Completes everything in progress, without another notification, and compares with the log.
    fn settle(&mut self) {
        self.world.serving = self.world.current;
        self.open();
        self.check = None;
        self.finish_reads();
        (0..2).for_each(|_| self.settle_check());
        for which in 0..self.readers.len() {
            let mut left = 1000;
            while !self.readers[which].live {
                self.catch_up(which);
                self.finish_reads();
                left -= 1;
                assert!(left > 0, "a reader never meets the tail");
            }
        }
        let log = self.world.log();
        assert_eq!(self.tail.position(), Some(log.head.into()));
        let ring = self.tail.recent().expect("the ring is read again");
        for entry in ring.after(ring.floor(), usize::MAX, usize::MAX).unwrap() {
            assert!(log.kept.iter().any(|kept| Arc::ptr_eq(kept, &entry)), "{} is in the ring", entry.id());
        }
        for reader in &self.readers {
            assert_eq!(reader.position, log.head.id);
            let got = |message: &Message| reader.got.iter().any(|got| Arc::ptr_eq(got, message));
            let removed =
                |message: &Message| self.world.removed.iter().any(|gone| Arc::ptr_eq(gone, message));
            let wanted = log.kept.iter().filter(|message| message.id() > reader.start && !removed(message));
            let missing: Vec<_> =
                wanted.filter(|message| !got(message)).map(|message| message.id()).collect();
            assert!(missing.is_empty(), "lost without a word: {missing:?}");
            let strange: Vec<_> =
                reader.got.iter().filter(|message| !log.has(message)).map(|message| message.id()).collect();
            assert!(strange.is_empty(), "gone, and nobody was told: {strange:?}");
        }
    }

    fn settle_check(&mut self) {
        self.check = None;
        (0..3).for_each(|_| self.advance_check());
        self.finish_reads();
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

fn plain_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..4_usize, 0..3_u64, any::<bool>()).prop_map(|(count, ms, own)| Op::Append { count, ms, own }),
        1 => Just(Op::Open),
        12 => (0..8_usize, any::<bool>()).prop_map(|(which, again)| Op::Receive { which, again }),
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
        2 => (0..5_usize, any::<bool>()).prop_map(|(lost, partitioned)| Op::FailOver { lost, partitioned }),
        2 => Just(Op::Heal),
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
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn without_loss_in_the_log_every_message_comes_once_and_no_gap(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(plain_op(), 0..120),
    ) {
        let simulation = run(page, ring, start, &history);
        for reader in &simulation.readers {
            let all = simulation.world.log().all.iter().map(|entry| entry.id());
            prop_assert!(all.filter(|id| *id > reader.start).eq(reader.got.iter().map(|entry| entry.id())));
            prop_assert_eq!(reader.gaps, 0);
        }
    }

    #[test]
    fn every_loss_of_the_log_is_reported_as_a_gap(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(any_op(), 0..120),
    ) {
        run(page, ring, start, &history);
    }

    #[test]
    fn a_deleted_room_starts_over(
        page in 1..6_usize,
        ring in 0..8_usize,
        start in 0..5_usize,
        history in prop::collection::vec(deletion(), 0..120),
    ) {
        run(page, ring, start, &history);
    }
}
