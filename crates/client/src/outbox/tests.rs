//! The outbox against a model of a server that loses connections, refuses, and forgets keys.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

/// Order of a message among those of its room. Its ticket.
type Number = usize;

fn room(name: usize) -> RoomName {
    format!("room{name}").parse().unwrap()
}

fn entry(kind: &str) -> Entry {
    let mut message = NewMessage::new(room(0), json!(1));
    message.kind = Some(kind.to_owned());
    Entry::of(&message)
}

fn failure(code: ErrorCode) -> Failure {
    Failure::new(code, "no")
}

fn unknown(_: &RoomName) -> Option<MessageId> {
    None
}

/// A request of the outbox, owned.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Publish(RoomName, Uuid),
    Search(RoomName, MessageId),
}

fn ask(outbox: &mut Outbox<Number>, now: Instant) -> Option<Asked> {
    ask_from(outbox, now, unknown)
}

fn ask_from(
    outbox: &mut Outbox<Number>,
    now: Instant,
    position: impl FnOnce(&RoomName) -> Option<MessageId>,
) -> Option<Asked> {
    outbox.next(now, position).map(|step| match step {
        Step::Publish(room, entry) => Asked::Publish(room.clone(), entry.key),
        Step::Search(room, after) => Asked::Search(room.clone(), after),
    })
}

fn id(seq: u64) -> MessageId {
    MessageId::new(5, seq)
}

#[test]
fn messages_of_a_room_go_one_after_the_other_and_rooms_at_once() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    for number in 0..2 {
        outbox.push(room(0), entry("a"), number);
    }
    outbox.push(room(1), entry("a"), 0);
    assert!(matches!(ask(&mut outbox, now), Some(Asked::Publish(of, _)) if of == room(0)));
    assert!(matches!(ask(&mut outbox, now), Some(Asked::Publish(of, _)) if of == room(1)));
    assert_eq!(ask(&mut outbox, now), None);
    let settled = outbox.answered(&room(0), Ok((id(1), false)), now, 0.0).unwrap();
    assert_eq!((settled.ticket, settled.outcome.unwrap().id), (0, id(1)));
    assert!(matches!(ask(&mut outbox, now), Some(Asked::Publish(of, _)) if of == room(0)));
}

#[test]
fn a_final_refusal_is_reported_and_lets_the_next_one_go() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    outbox.push(room(0), entry("a"), 0);
    outbox.push(room(0), entry("a"), 1);
    ask(&mut outbox, now);
    let settled = outbox.answered(&room(0), Err(failure(ErrorCode::TooLarge)), now, 0.0).unwrap();
    assert_eq!((settled.ticket, settled.outcome), (0, Err(failure(ErrorCode::TooLarge))));
    assert!(ask(&mut outbox, now).is_some());
}

#[test]
fn an_unavailable_room_waits_alone_and_the_rate_limit_holds_up_all() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    (0..3).for_each(|name| outbox.push(room(name), entry("a"), 0));
    ask(&mut outbox, now);
    let unavailable = Failure { retry_after_ms: Some(1000), ..failure(ErrorCode::Unavailable) };
    assert!(outbox.answered(&room(0), Err(unavailable), now, 1.0).is_none());
    assert!(ask(&mut outbox, now).is_some());
    assert_eq!(outbox.wake_at(), Some(now + Duration::from_millis(1250)));
    let limited = Failure { retry_after_ms: Some(3000), ..failure(ErrorCode::RateLimited) };
    assert!(outbox.answered(&room(1), Err(limited), now, 0.0).is_none());
    assert_eq!(ask(&mut outbox, now + Duration::from_millis(2999)), None);
    let later = now + Duration::from_secs(3);
    assert_eq!(outbox.wake_at(), Some(later));
    // One to try, then more and more.
    assert!(ask(&mut outbox, later).is_some());
    assert_eq!(ask(&mut outbox, later), None);
    outbox.answered(&room(2), Ok((id(1), false)), later, 0.0).unwrap();
    assert!(ask(&mut outbox, later).is_some() && ask(&mut outbox, later).is_some());
}

#[test]
fn what_may_be_stored_is_searched_for_before_it_goes_again() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    outbox.push(room(0), entry("a"), 0);
    let followed = |_: &RoomName| Some(id(7));
    let Some(Asked::Publish(of, key)) = ask_from(&mut outbox, now, followed) else { panic!() };
    outbox.disconnected();
    assert_eq!(ask(&mut outbox, now), Some(Asked::Search(room(0), id(7))));
    let other = Stored { id: id(8), key: Uuid::new_v4() };
    let page = Found { messages: vec![other], more: true };
    assert!(outbox.searched(&of, Ok(page), now, 0.0).is_none());
    assert_eq!(ask(&mut outbox, now), Some(Asked::Search(room(0), id(8))));
    let page = Found { messages: vec![Stored { id: id(9), key }], more: true };
    let settled = outbox.searched(&of, Ok(page), now, 0.0).unwrap();
    assert_eq!(settled.outcome, Ok(Published { id: id(9), key, duplicate: true }));
    assert!(outbox.is_empty());
}

#[test]
fn without_the_right_to_read_or_a_place_to_begin_it_goes_again() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    outbox.push(room(0), entry("a"), 0);
    let first = ask(&mut outbox, now);
    outbox.disconnected();
    assert_eq!(ask(&mut outbox, now), first);
    outbox.answered(&room(0), Ok((id(1), true)), now, 0.0).unwrap();
    outbox.push(room(0), entry("a"), 1);
    let second = ask(&mut outbox, now);
    outbox.disconnected();
    assert_eq!(ask(&mut outbox, now), Some(Asked::Search(room(0), id(1))));
    outbox.searched(&room(0), Err(failure(ErrorCode::Forbidden)), now, 0.0);
    assert_eq!(ask(&mut outbox, now), second);
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut outbox = Outbox::new();
    let now = Instant::now();
    outbox.push(room(0), entry("a"), 0);
    assert!(outbox.answered(&room(0), Ok((id(1), false)), now, 0.0).is_none());
    ask(&mut outbox, now);
    outbox.disconnected();
    assert!(outbox.answered(&room(0), Ok((id(1), false)), now, 0.0).is_none());
    assert!(outbox.answered(&room(9), Ok((id(1), false)), now, 0.0).is_none());
    assert_eq!(outbox.drain().len(), 1);
    assert!(outbox.is_empty() && outbox.wake_at().is_none());
}

/// A server's log of a room, and the keys that it remembers.
#[derive(Debug, Default)]
struct Log {
    stored: Vec<(MessageId, Uuid)>,
    keys: HashMap<Uuid, MessageId>,
}

impl Log {
    fn append(&mut self, key: Uuid) -> (MessageId, bool) {
        if let Some(known) = self.keys.get(&key) {
            return (*known, true);
        }
        let id = MessageId::new(5, self.stored.len() as u64 + 1);
        self.stored.push((id, key));
        self.keys.insert(key, id);
        (id, false)
    }

    fn page(&self, after: MessageId, limit: usize) -> Found {
        let later: Vec<_> = self.stored.iter().filter(|(id, _)| *id > after).collect();
        let messages = later.iter().take(limit).map(|(id, key)| Stored { id: *id, key: *key }).collect();
        Found { messages, more: later.len() > limit }
    }
}

/// A step of a run.
#[derive(Debug, Clone)]
enum Act {
    Push {
        room: usize,
        is_bad: bool,
    },
    /// A message of somebody else.
    Foreign {
        room: usize,
    },
    /// The server handles one of the requests that are on their way, in this manner.
    Serve {
        which: usize,
        how: How,
    },
    Disconnect,
    /// The server's memory of keys ends. Only histories tell.
    Forget,
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Answer,
    Unavailable,
    /// It is stored, but Redis's confirmation is lost.
    UnavailableAndStored,
    Limited,
    /// It takes effect, and the connection is lost before the answer.
    Cut,
}

fn act() -> impl Strategy<Value = Act> {
    let how = prop_oneof![
        6 => Just(How::Answer),
        1 => Just(How::Unavailable),
        1 => Just(How::UnavailableAndStored),
        1 => Just(How::Limited),
        1 => Just(How::Cut),
    ];
    prop_oneof![
        4 => (0..3usize, prop::bool::weighted(0.1)).prop_map(|(room, is_bad)| Act::Push { room, is_bad }),
        1 => (0..3usize).prop_map(|room| Act::Foreign { room }),
        8 => (any::<usize>(), how).prop_map(|(which, how)| Act::Serve { which, how }),
        1 => Just(Act::Disconnect),
        1 => Just(Act::Forget),
        2 => (0..3000u64).prop_map(|ms| Act::Wait { ms }),
    ]
}

/// A run: the outbox, the server, and what must become of the messages.
struct World {
    outbox: Outbox<Number>,
    now: Instant,
    logs: Vec<Log>,
    on_the_way: Vec<Asked>,
    /// Keys in the order of pushing, by room, and whether the server refuses them.
    pushed: Vec<Vec<(Uuid, bool)>>,
    settled: HashSet<(RoomName, Number)>,
}

impl World {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(),
            now: Instant::now(),
            logs: (0..3).map(|_| Log::default()).collect(),
            on_the_way: Vec::new(),
            pushed: vec![Vec::new(); 3],
            settled: HashSet::new(),
        }
    }

    fn index(room: &RoomName) -> usize {
        room.as_str()["room".len()..].parse().unwrap()
    }

    fn send(&mut self) {
        while let Some(asked) = ask_from(&mut self.outbox, self.now, |_| Some(MessageId::ZERO)) {
            self.on_the_way.push(asked);
        }
        assert!(self.on_the_way.len() <= MAX_IN_FLIGHT);
        let rooms = self.on_the_way.iter().map(|asked| match asked {
            Asked::Publish(room, _) | Asked::Search(room, _) => room.clone(),
        });
        let rooms = rooms.collect::<HashSet<_>>();
        assert_eq!(rooms.len(), self.on_the_way.len(), "one at a time for each room");
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Push { room: name, is_bad } => {
                let entry = entry("a");
                self.pushed[name].push((entry.key, is_bad));
                self.outbox.push(room(name), entry, self.pushed[name].len() - 1);
            }
            Act::Foreign { room } => drop(self.logs[room].append(Uuid::new_v4())),
            Act::Serve { which, how } if !self.on_the_way.is_empty() => {
                let asked = self.on_the_way.swap_remove(which % self.on_the_way.len());
                self.serve(asked, how);
            }
            Act::Serve { .. } => {}
            Act::Disconnect => self.disconnect(),
            Act::Forget => self.logs.iter_mut().for_each(|log| log.keys.clear()),
            Act::Wait { ms } => self.now += Duration::from_millis(ms),
        }
        self.send();
    }

    fn disconnect(&mut self) {
        self.on_the_way.clear();
        self.outbox.disconnected();
    }

    fn serve(&mut self, asked: Asked, how: How) {
        let refusal = |how| match how {
            How::Limited => Failure { retry_after_ms: Some(700), ..failure(ErrorCode::RateLimited) },
            _ => failure(ErrorCode::Unavailable),
        };
        match asked {
            Asked::Publish(room, key) => {
                let name = Self::index(&room);
                let is_bad = self.pushed[name].iter().any(|(bad, is_bad)| *bad == key && *is_bad);
                let answer = match how {
                    How::Limited | How::Unavailable => Err(refusal(how)),
                    _ if is_bad => Err(failure(ErrorCode::Forbidden)),
                    How::Answer | How::Cut => Ok(self.logs[name].append(key)),
                    How::UnavailableAndStored => {
                        self.logs[name].append(key);
                        Err(refusal(how))
                    }
                };
                if let How::Cut = how {
                    return self.disconnect();
                }
                let settled = self.outbox.answered(&room, answer, self.now, 0.5);
                self.settled(&room, settled);
            }
            Asked::Search(room, after) => {
                let answer = match how {
                    How::Answer => Ok(self.logs[Self::index(&room)].page(after, 2)),
                    How::Cut => return self.disconnect(),
                    _ => Err(refusal(how)),
                };
                let settled = self.outbox.searched(&room, answer, self.now, 0.5);
                self.settled(&room, settled);
            }
        }
    }

    fn settled(&mut self, room: &RoomName, settled: Option<Settled<Number>>) {
        let Some(Settled { ticket, outcome }) = settled else { return };
        let name = Self::index(room);
        let (key, is_bad) = self.pushed[name][ticket];
        assert!(self.settled.insert((room.clone(), ticket)), "settled once");
        match outcome {
            Ok(published) => {
                assert_eq!(published.key, key);
                assert!(self.logs[name].stored.contains(&(published.id, key)), "confirmed and not stored");
            }
            Err(failure) => assert!(is_bad, "{failure}"),
        }
    }

    /// Serves all that is left, without faults.
    fn finish(&mut self) {
        self.send();
        while !self.outbox.is_empty() {
            match self.on_the_way.pop() {
                Some(asked) => self.serve(asked, How::Answer),
                None => self.now = self.outbox.wake_at().expect("something to wait for"),
            }
            self.send();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_message_is_stored_once_and_in_order_whatever_happens(
        acts in prop::collection::vec(act(), 0..200)
    ) {
        let mut world = World::new();
        acts.into_iter().for_each(|act| world.act(act));
        world.finish();
        for (log, pushed) in world.logs.iter().zip(&world.pushed) {
            let own: HashSet<Uuid> = pushed.iter().map(|(key, _)| *key).collect();
            let stored: Vec<Uuid> = log.stored.iter().map(|(_, key)| *key).filter(|key| own.contains(key)).collect();
            let good: Vec<Uuid> = pushed.iter().filter(|(_, is_bad)| !is_bad).map(|(key, _)| *key).collect();
            prop_assert_eq!(stored, good);
        }
        let pushed: usize = world.pushed.iter().map(Vec::len).sum();
        prop_assert_eq!(world.settled.len(), pushed);
    }
}
