//! The checker accepts a sound run, and each rule finds the violation that is planted for it.

mod durable;
mod readers;

use roomlog_protocol::MessageId;
use uuid::Uuid;

use super::check;
use crate::model::plan::{Durability, Fault, Plan, Planned, Sync, Topology};
use crate::model::record::{Event, Ms, Opened, Outcome, Publish, Reason, Stored};

const ROOM: &str = "room";

fn id(seq: u64) -> MessageId {
    MessageId::new(1000 + seq, seq)
}

/// Returns an id of a history that Redis lost.
fn lost(seq: u64) -> MessageId {
    MessageId::new(2000 + seq, seq)
}

fn stored(id: MessageId, number: u64) -> Stored {
    Stored { id, key: Uuid::from_u128(number.into()), sent: format!("ann {number}") }
}

/// The events of one room. Messages are numbered by their content, sessions in the order in which they begin.
#[derive(Default)]
struct Tale {
    events: Vec<Event>,
    now: Ms,
    faults: Vec<Fault>,
    sessions: u64,
}

impl Tale {
    /// Publishes and confirms numbers 1 to `count`, one each 10 ms.
    fn of(count: u64) -> Self {
        let mut tale = Self::default();
        (1..=count).for_each(|number| tale.publish(number, Outcome::Ok(id(number))));
        tale
    }

    fn publish(&mut self, number: u64, outcome: Outcome) {
        let Stored { key, sent, .. } = stored(id(number), number);
        let at = self.now;
        self.now += 10;
        let room = ROOM.to_owned();
        self.events.push(Event::Publish(Publish { at, till: at + 5, room, node: 0, key, sent, outcome }));
    }

    fn opens(&mut self, reader: &str, durable: bool, position: MessageId) -> u64 {
        self.opens_since(reader, durable, None, position)
    }

    fn opens_since(
        &mut self,
        reader: &str,
        durable: bool,
        since: Option<MessageId>,
        position: MessageId,
    ) -> u64 {
        self.sessions += 1;
        self.now += 10;
        self.events.push(Event::Opened(Opened {
            at: self.now - 5,
            till: self.now,
            session: self.sessions,
            reader: reader.into(),
            room: ROOM.into(),
            node: 0,
            durable,
            by_request: false,
            since,
            position,
        }));
        self.sessions
    }

    fn gets(&mut self, session: u64, id: MessageId, number: u64) {
        self.now += 1;
        self.events.push(Event::Message { at: self.now, session, message: stored(id, number) });
    }

    fn gets_all(&mut self, session: u64, seqs: std::ops::RangeInclusive<u64>) {
        seqs.for_each(|seq| self.gets(session, id(seq), seq));
    }

    fn gap(&mut self, session: u64, after: MessageId, next: MessageId, reason: Reason) {
        self.now += 1;
        self.events.push(Event::Gap { at: self.now, session, after, next, reason });
    }

    fn live(&mut self, session: u64, id: MessageId) {
        self.events.push(Event::Live { at: self.now, session, id });
    }

    fn acks(&mut self, session: u64, seq: u64, confirmed: bool) {
        self.now += 10;
        let outcome = if confirmed { Outcome::Ok(id(seq)) } else { Outcome::Unknown("no answer".into()) };
        let (at, till) = (self.now - 5, self.now);
        self.events.push(Event::Ack { at, till, session, id: id(seq), outcome });
    }

    /// Begins a fault now.
    fn fails(&mut self, fault: Fault) {
        let (at, index) = (self.now, self.faults.len());
        self.faults.push(fault);
        self.now += 10_000;
        self.events.push(Event::Fault { at, till: self.now, index });
    }

    fn ends_with(&mut self, messages: Vec<Stored>) {
        for observer in ["node 0", "node 1", "redis"] {
            self.events.push(Event::History {
                room: ROOM.into(),
                observer: observer.into(),
                messages: messages.clone(),
            });
        }
    }

    fn ends(&mut self, count: u64) {
        self.ends_with((1..=count).map(|seq| stored(id(seq), seq)).collect());
    }

    fn position(&mut self, reader: &str, position: Option<MessageId>) {
        self.events.push(Event::Position { reader: reader.into(), room: ROOM.into(), position });
    }

    /// Returns the rules that are broken.
    fn broken(&self) -> Vec<String> {
        let mut plan = Plan::draw(1, Topology::Sentinel, 1);
        (plan.sync, plan.durability) = (Sync::Everysec, Durability::Memory);
        let planned = self.faults.iter().map(|fault| Planned { at: 0, lasts: 0, fault: *fault });
        plan.faults = planned.collect();
        let mut rules: Vec<_> = check(&plan, &self.events).into_iter().map(|found| found.rule).collect();
        rules.dedup();
        rules
    }

    #[track_caller]
    fn breaks(&self, rule: &str) {
        assert_eq!(self.broken(), [rule]);
    }

    #[track_caller]
    fn is_sound(&self) {
        assert!(self.broken().is_empty(), "{:?}", self.broken());
    }
}

const FAILOVER: Fault = Fault::PrimaryKill { shard: 0, lag: 0 };

/// Returns a run in which 1 to 5 are published, 4 and 5 are lost, and 6 and 7 take their places.
fn after_a_loss() -> (Tale, u64) {
    let mut tale = Tale::of(3);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets_all(session, 1..=3);
    tale.fails(FAILOVER);
    tale.publish(4, Outcome::Ok(lost(4)));
    tale.publish(5, Outcome::Unknown("unavailable".into()));
    tale.gets(session, lost(4), 4);
    tale.gets(session, lost(5), 5);
    tale.publish(6, Outcome::Ok(MessageId::new(3000, 4)));
    tale.publish(7, Outcome::Ok(MessageId::new(3001, 5)));
    (tale, session)
}

fn log_after_the_loss() -> Vec<Stored> {
    let mut log: Vec<_> = (1..=3).map(|seq| stored(id(seq), seq)).collect();
    log.extend([stored(MessageId::new(3000, 4), 6), stored(MessageId::new(3001, 5), 7)]);
    log
}

fn gets_the_rest(tale: &mut Tale, session: u64) {
    tale.gets(session, MessageId::new(3000, 4), 6);
    tale.gets(session, MessageId::new(3001, 5), 7);
}

#[test]
fn a_run_without_losses_passes() {
    let mut tale = Tale::of(5);
    let first = tale.opens("reader", false, MessageId::ZERO);
    tale.gets_all(first, 1..=3);
    tale.live(first, id(3));
    let second = tale.opens("reader", false, id(3));
    tale.gets_all(second, 4..=5);
    tale.publish(6, Outcome::Unknown("no answer".into()));
    tale.ends(5);
    tale.is_sound();
}

#[test]
fn a_run_with_a_reported_loss_passes() {
    let (mut tale, session) = after_a_loss();
    tale.gap(session, lost(5), MessageId::new(1004, 4), Reason::Rewound);
    gets_the_rest(&mut tale, session);
    tale.ends_with(log_after_the_loss());
    tale.is_sound();
}

#[test]
fn correct_durable_subscriptions_pass() {
    let mut tale = Tale::of(5);
    let first = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(first, 1..=4);
    tale.acks(first, 2, true);
    tale.acks(first, 3, false);
    let second = tale.opens("durable", true, id(2));
    tale.gets_all(second, 3..=5);
    tale.acks(second, 5, true);
    tale.ends(5);
    tale.position("durable", Some(id(5)));
    tale.is_sound();
}

#[test]
fn confirmed_messages_are_stored() {
    let mut tale = Tale::of(3);
    tale.ends(2);
    tale.breaks("confirmed is stored");
}

#[test]
fn confirmed_messages_have_the_confirmed_id() {
    let mut tale = Tale::of(2);
    tale.ends_with(vec![stored(id(1), 1), stored(lost(2), 2)]);
    tale.breaks("confirmed is stored");
}

#[test]
fn messages_with_an_unknown_outcome_are_stored_at_most_once() {
    let mut tale = Tale::of(2);
    tale.publish(3, Outcome::Unknown("no answer".into()));
    tale.ends_with(vec![stored(id(1), 1), stored(id(2), 2), stored(id(3), 3), stored(id(4), 3)]);
    tale.breaks("stored once");
}

#[test]
fn refused_messages_are_not_stored() {
    let mut tale = Tale::of(2);
    tale.publish(3, Outcome::Failed("too_large".into()));
    tale.ends(3);
    tale.breaks("what is refused is not stored");
}

#[test]
fn the_log_has_only_published_messages() {
    let mut tale = Tale::of(2);
    tale.ends(3);
    tale.breaks("nothing that nobody sent");
}

#[test]
fn the_log_is_in_the_order_of_publishing() {
    let mut tale = Tale::default();
    tale.publish(1, Outcome::Ok(id(2)));
    tale.publish(2, Outcome::Ok(id(1)));
    tale.ends_with(vec![stored(id(1), 2), stored(id(2), 1)]);
    tale.breaks("in the order of publishing");
}

#[test]
fn the_log_has_no_hole() {
    let mut tale = Tale::of(1);
    tale.publish(2, Outcome::Ok(id(3)));
    tale.ends_with(vec![stored(id(1), 1), stored(id(3), 2)]);
    tale.breaks("no hole in the log");
}

#[test]
fn observers_agree() {
    let mut tale = Tale::of(2);
    tale.ends(2);
    let messages = vec![stored(id(1), 1)];
    tale.events.push(Event::History { room: ROOM.into(), observer: "node 2".into(), messages });
    tale.breaks("observers agree");
}

#[test]
fn losses_are_allowed_only_while_they_may_happen() {
    let mut tale = Tale::of(2);
    tale.now += 60_000;
    tale.fails(FAILOVER);
    tale.ends(1);
    tale.breaks("confirmed is stored");
}
