//! The actions of clients and operators and the faults of a schedule, each drawn at random.

use std::sync::Arc;

use super::{Profile, Schedule, WINDOW};
use crate::log::retention::Plan;
use crate::node::Simulated;
use crate::protocol::MessageId;
use crate::protocol::request::Start;
use crate::simulation::clients::room;
use crate::simulation::executor;
use crate::simulation::network::{self, Kind};
use crate::simulation::record::Told;
use crate::simulation::world::{World, in_world};
use crate::tasks;

impl Schedule {
    pub(super) fn one_thing(&mut self) {
        let (what, client) = in_world(|world| (world.rng.u32(..100), world.rng.usize(..self.clients.len())));
        match what {
            0..30 => self.publish(client),
            30..40 => self.publish_again(client),
            40..58 => self.subscribe(client),
            58..69 => self.acknowledge(client),
            69..72 => self.clients[client].unsubscribe(),
            72..78 => self.reconnect(client),
            78..83 if self.profile.slow => {
                self.clients[client].take(in_world(|world| world.rng.usize(..600)))
            }
            83..87 if self.profile.trims => self.take_out(),
            87..89 if self.profile.deletions => self.delete_room(),
            89..91 => in_world(|world| {
                let (node, for_us) = (world.some_place(), world.some_time(400));
                let kind = Kind::ALL[world.rng.usize(..2)];
                if network::stands(world, node, kind) {
                    world.cut(node, kind, for_us);
                }
            }),
            91..94 if self.profile.failovers => in_world(World::lag),
            94..97 if self.profile.failovers => self.fail_over(),
            97 if self.profile.clocks => in_world(World::set_clock),
            98 if self.profile.kills => self.kill(),
            _ => self.publish(client),
        }
    }

    fn publish(&mut self, client: usize) {
        self.keys.push(in_world(|world| world.now_us));
        self.clients[client].publish(self.keys.len() as u128);
    }

    fn publish_again(&mut self, client: usize) {
        let key = in_world(|world| {
            let publishes = &world.record.publishes;
            let confirmed = |key: u128| {
                publishes.iter().any(|one| one.key == key && one.answered.is_some_and(|(_, id)| id.is_some()))
            };
            let is_known =
                |key: u128| self.keys[key as usize - 1] + WINDOW.as_micros() as u64 / 3 > world.now_us;
            let keys = publishes.iter().map(|one| one.key);
            let open: Vec<u128> = keys.filter(|key| !confirmed(*key) && is_known(*key)).collect();
            world.rng.choice(open)
        });
        if let Some(key) = key {
            self.clients[client].publish(key);
        }
    }

    fn subscribe(&mut self, client: usize) {
        let durable = client >= 2;
        let start = in_world(|world| match world.rng.u32(..10) {
            0..2 => Some(Start::Last(world.rng.usize(..4))),
            2..7 if !durable => world.some_id(client).map(|(ms, seq)| Start::After(MessageId::new(ms, seq))),
            7 if !durable => Some(Start::Oldest),
            _ => None,
        });
        self.clients[client].subscribe(start, durable);
    }

    fn acknowledge(&mut self, client: usize) {
        let connection = self.clients[client].connection;
        let id = in_world(|world| {
            let run = &world.record.runs[world.record.connections[connection].run?];
            let told = run.told.iter().rev().filter_map(|(_, told)| match told {
                Told::Message(id, _) => Some(*id),
                _ => None,
            });
            let newest: Vec<_> = told.take(3).collect();
            world.rng.choice(newest).filter(|_| run_is_durable(world, connection))
        });
        if let Some(id) = id {
            self.clients[client].acknowledge(id);
        }
    }

    fn reconnect(&mut self, client: usize) {
        let alive: Vec<usize> = (0..self.nodes.len()).filter(|place| self.nodes[*place].is_some()).collect();
        let place = in_world(|world| alive[world.rng.usize(..alive.len())]);
        self.connect(client, place);
    }

    fn some_node(&self) -> (usize, Arc<Simulated>) {
        let place = in_world(World::some_place);
        (place, self.nodes[place].clone().expect("it is alive"))
    }

    fn take_out(&self) {
        let (place, node) = self.some_node();
        let (keep, id) = in_world(|world| {
            let log = world.log();
            let some = world.rng.choice(log);
            (world.rng.u64(..6), some.filter(|_| world.rng.bool()))
        });
        executor::as_owner(place + 1, || {
            tasks::spawn(async move {
                let room = room();
                if let Some((ms, seq)) = id {
                    if let Ok(Some(cut)) = node.store.delete_message(&room, MessageId::new(ms, seq)).await {
                        node.hub.evict(&room, cut);
                    }
                } else if let Ok(facts) = node.store.facts(&room).await {
                    let plan = Plan { keep_length: Some(keep), before: None };
                    let _ = node.store.trim(&room, &plan, facts.head).await;
                }
            });
        });
    }

    fn delete_room(&self) {
        let (place, node) = self.some_node();
        // There is no deletion while there are two servers: it would be lost with one of them.
        if !in_world(World::begin_deletion) {
            return;
        }
        executor::as_owner(place + 1, || {
            tasks::spawn(async move {
                let _guard = Deletion;
                if let Ok(Some(head)) = node.store.delete_room(&room()).await {
                    node.hub.deleted(&room(), head);
                }
            });
        });
    }

    fn fail_over(&self) {
        let Profile { splits, clocks, .. } = self.profile;
        in_world(|world| {
            if world.may_fail_over() {
                let split = splits && world.rng.bool();
                let ahead = if clocks { world.rng.i64(-2_000_000..2_000_000) } else { 0 };
                world.fail_over(split, ahead);
            }
        });
    }

    /// Kills a node. Another one takes its place, and clients connect to that.
    fn kill(&mut self) {
        let (place, node) = self.some_node();
        in_world(|world| world.kill(place));
        executor::kill(place + 1);
        self.nodes[place] = None;
        drop(node);
        self.start_node();
        let newest = self.nodes.len() - 1;
        for client in 0..self.clients.len() {
            let connection = self.clients[client].connection;
            if in_world(|world| world.record.connections[connection].node) == place {
                self.connect(client, newest);
            }
        }
    }

    /// Asks the last questions after the quiet period, when everything works and everybody must see the same.
    pub(super) fn last_questions(&mut self) {
        in_world(|world| {
            world.note(|| "the last questions".to_owned());
            world.asked_at_last = world.record.order();
            world.head_at_last = world.head();
        });
        for client in 0..self.clients.len() {
            let newest = in_world(|world| world.newest_told(self.clients[client].connection));
            if let Some(id) = newest {
                self.clients[client].acknowledge(id);
            }
        }
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_none() {
                continue;
            }
            let observer = self.clients.len();
            self.connect(observer, place);
            let start = in_world(|world| {
                let log = world.log();
                world.rng.choice(log).map_or(MessageId::ZERO, |(ms, seq)| MessageId::new(ms, seq))
            });
            self.clients[observer].subscribe(Some(Start::After(start)), false);
            self.publish(observer);
        }
    }
}

fn run_is_durable(world: &World, connection: usize) -> bool {
    world.record.connections[connection].run.is_some_and(|run| world.record.runs[run].began.durable)
}

/// A deletion that may be in progress.
struct Deletion;

impl Drop for Deletion {
    fn drop(&mut self) {
        in_world(World::end_deletion);
    }
}
