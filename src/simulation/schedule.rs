//! A schedule: the actions of clients and operators, the faults, and the choice of the next event.

mod acts;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::clients::Client;
use super::executor;
use super::network::{self, Event, Rates};
use super::world::{self, World, in_world};
use crate::auth::{Claims, Grants, Permission, Verifier};
use crate::config::Config;
use crate::node::Simulated;
use crate::telemetry::Metrics;

/// Quiet period before the last questions. [`ANSWERED`] is the one after them, at the end.
const QUIET: Duration = Duration::from_millis(4000);
const ANSWERED: Duration = Duration::from_millis(1800);

/// Minimum time for which keys are known. Messages are sent again during a third of it. They may be in flight
/// for some of the rest, and clock steps take no more than what remains.
const WINDOW: Duration = Duration::from_secs(12);

/// Number of steps after which a schedule counts as one that never ends.
const MOST_STEPS: usize = 200_000;

/// Number of schedules after which the gathered metrics are folded once.
const UPKEEP: u64 = 500;

#[derive(Clone)]
struct Parts {
    config: Config,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
    claims: Arc<Claims>,
}

thread_local! {
    static PARTS: Parts = parts();
}

fn parts() -> Parts {
    let secret = "a secret of a simulation, of no use anywhere else".into();
    let mut config = Config::load(None, std::iter::empty(), vec![("auth.hs256_secret".into(), secret)])
        .expect("a configuration");
    config.redis.command_timeout = crate::redis::simulated::COMMAND_TIMEOUT;
    config.hub.check_interval = Duration::from_secs(1);
    config.hub.linger = Duration::from_secs(1);
    config.limits.create_rate = None;
    config.limits.publish_rate = None;
    let metrics = Arc::new(Metrics::new(&config.rooms));
    let verifier =
        futures_util::future::FutureExt::now_or_never(Verifier::new(&config.auth, metrics.clone()));
    let verifier = Arc::new(verifier.expect("it waits for nothing").expect("it has a key"));
    let all = [("*".parse().expect("a pattern"), Permission::ALL.to_vec())];
    let claims = Arc::new(Claims {
        user: "ann".parse().expect("a user"),
        expires: u64::MAX,
        issued: None,
        jti: None,
        grants: Grants::from(crate::auth::RoomGrants::from(all)),
    });
    Parts { config, verifier, metrics, claims }
}

#[derive(Debug, Clone, Copy)]
struct Profile {
    failovers: bool,
    splits: bool,
    clocks: bool,
    deletions: bool,
    trims: bool,
    kills: bool,
    slow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Busy,
    Quiet,
    Asked,
    Over,
}

pub(super) struct Schedule {
    parts: Parts,
    profile: Profile,
    /// The nodes by their places in the network, or `None` for dead ones.
    nodes: Vec<Option<Arc<Simulated>>>,
    clients: Vec<Client>,
    /// The time of each message's first publish, by its key.
    keys: Vec<u64>,
    left: usize,
    next: u64,
    phase: Phase,
    events: Vec<Event>,
    begun: Instant,
    alarm: Pin<Box<Sleep>>,
    pub steps: usize,
}

impl Schedule {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let begun = Instant::now();
        let mut world = World::new(seed, traced);
        let dice = &mut world.rng;
        let one_in = |dice: &mut fastrand::Rng, n: u32| dice.u32(..n) == 0;
        let mut profile = Profile {
            failovers: one_in(dice, 2),
            splits: one_in(dice, 2),
            clocks: one_in(dice, 3),
            deletions: one_in(dice, 4),
            trims: one_in(dice, 3),
            kills: one_in(dice, 4),
            slow: one_in(dice, 3),
        };
        // A new message after a deletion must have a later time. After a failover, this relies on clocks that
        // agree.
        profile.clocks &= !(profile.failovers && profile.deletions);
        world.clocks_differ = profile.clocks;
        let dice = &mut world.rng;
        let rate = |dice: &mut fastrand::Rng| [0, 0, 20, 100][dice.usize(..4)];
        world.rates = Rates {
            hold: rate(dice) / 2,
            cut: rate(dice) / 3,
            lose: rate(dice) * 2,
            repeat: rate(dice),
            reorder: rate(dice) * 2,
        };
        let mut parts = PARTS.with(Clone::clone);
        if seed.is_multiple_of(UPKEEP) {
            parts.metrics.upkeep();
        }
        parts.config.hub.ring_messages = [1, 3, 8, 100][dice.usize(..4)];
        parts.config.limits.outbox = [400, 1000, 100_000][dice.usize(..3)];
        // So that a window ends within the schedule.
        parts.config.retention.deduplication_window = WINDOW;
        world.began_us -= dice.u64(..WINDOW.as_micros() as u64);
        let left = dice.usize(8..40);
        let page = [1, 2, 5, usize::MAX][dice.usize(..4)];
        world::begin(world);
        super::set_page(page);
        let mut schedule = Self {
            parts,
            profile,
            nodes: Vec::new(),
            clients: Vec::new(),
            keys: Vec::new(),
            left,
            next: 0,
            phase: Phase::Busy,
            events: Vec::new(),
            begun,
            alarm: Box::pin(sleep_until(begun)),
            steps: 0,
        };
        schedule.start_node();
        schedule.start_node();
        for client in 0..4 {
            let place = client % 2;
            schedule.connect(client, place);
        }
        schedule
    }

    fn start_node(&mut self) {
        let place = in_world(World::add_place);
        let Parts { config, verifier, metrics, .. } = self.parts.clone();
        let node = executor::as_owner(place + 1, || Simulated::start(place, &config, verifier, metrics));
        self.nodes.push(Some(node));
    }

    fn connect(&mut self, client: usize, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let connected = Client::connect(client, place, node, &self.parts.claims);
        if client < self.clients.len() {
            std::mem::replace(&mut self.clients[client], connected).disconnect();
        } else {
            self.clients.push(connected);
        }
    }

    /// Executes events one by one, until none is possible before some time has passed, or the schedule is
    /// over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.begun.elapsed().as_micros() as u64;
        in_world(|world| world.now_us = now);
        loop {
            self.events.clear();
            let mut held = in_world(|world| world.eligible(&mut self.events));
            let (tasks, events) = (executor::ready(), self.events.len());
            let acts = usize::from(self.next <= now);
            let count = tasks + events + acts;
            if count == 0 {
                held = Some(held.map_or(self.next, |held| held.min(self.next)));
                let wake = self.begun + Duration::from_micros(held.unwrap_or_default());
                self.alarm.as_mut().reset(wake);
                executor::wake_when_ready(context.waker());
                match self.alarm.as_mut().poll(context) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.steps += 1;
            assert!(self.steps < MOST_STEPS, "the schedule never ends");
            let pick = in_world(|world| world.rng.usize(..count));
            if pick < tasks {
                executor::poll(pick);
            } else if pick < tasks + events {
                network::happen(self.events[pick - tasks]);
                in_world(World::end_losses);
            } else {
                self.act();
                if self.phase == Phase::Over {
                    return Poll::Ready(());
                }
            }
        }
    }

    fn act(&mut self) {
        let now = in_world(|world| world.now_us);
        match self.phase {
            Phase::Busy if self.left > 0 => {
                self.left -= 1;
                self.one_thing();
                self.next = now
                    + in_world(|world| match world.rng.u32(..20) {
                        0..12 => 0,
                        12..19 => world.some_time(60),
                        _ => world.some_time(2500),
                    });
            }
            Phase::Busy => {
                in_world(|world| {
                    world.note(|| "all is left alone".to_owned());
                    world.calm();
                });
                self.clients.iter().for_each(|client| client.take(usize::MAX));
                self.phase = Phase::Quiet;
                self.next = now + QUIET.as_micros() as u64;
            }
            Phase::Quiet => {
                self.last_questions();
                self.phase = Phase::Asked;
                self.next = now + ANSWERED.as_micros() as u64;
            }
            Phase::Asked | Phase::Over => self.phase = Phase::Over,
        }
    }
}
