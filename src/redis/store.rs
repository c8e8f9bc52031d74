//! Routes commands to the shard of their room, and interprets errors. The operations are in the sibling
//! files, each as an `impl Store` of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::Value;
use fred::util::redis_keyslot;
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dial::Dial;
use super::due::Notes;
use super::errors::ConnectError;
use super::functions::Functions;
use super::keys::Keys;
use super::reserve::Reserve;
use super::shards::{Shard, ShardOptions, Shards};
use super::wire::Wire;
use crate::log::Durability;
use crate::log::Unavailable;
use crate::protocol::RoomName;
use crate::telemetry::{Metrics, RedisCall};

#[cfg(test)]
mod simulated;

/// Maximum number of commands in one pipeline. Replies stay small, and other commands do not wait long behind
/// it.
const PIPELINE: usize = 512;

/// First and longest pause before a command is retried that a server temporarily rejected.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub url: String,
    pub prefix: String,
    /// To each primary. A room always uses the same one, so that a sender's messages keep their order.
    pub clients: usize,
    pub durability: Durability,
    pub command_timeout: Duration,
    /// Minimum time that a message's key is remembered.
    pub deduplication_window: Duration,
}

/// The rooms' logs in Redis. Every operation is atomic in Redis, or idempotent.
pub struct Store {
    pub(super) shards: Arc<Shards>,
    pub(super) wire: Wire,
    pub(super) keys: Keys,
    pub(super) options: StoreOptions,
    pub(super) reserve: Reserve,
    pub(super) notes: Notes,
}

/// One command of a room: its label in the metrics, its name and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub call: RedisCall,
    pub name: &'static str,
    pub args: Vec<Value>,
}

impl Command {
    pub(super) fn new(call: RedisCall, name: &'static str, args: impl IntoIterator<Item = Value>) -> Self {
        Self { call, name, args: args.into_iter().collect() }
    }

    pub(super) fn function_key(&self) -> Option<String> {
        if self.name == "FCALL" { self.args.get(2).and_then(Value::as_string) } else { None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Redis could not be reached in time, or refused. The outcome of a write is unknown.
    Unavailable,
    /// The server temporarily rejected the command, which had no effect: its slot has moved, is being
    /// migrated, or has no primary at the moment.
    Again,
}

impl Store {
    /// Connects, and loads the functions on every primary.
    pub async fn connect(
        options: StoreOptions,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let dial = Dial::new(&options.url, options.command_timeout)?;
        let wait = (options.durability == Durability::Replica).then_some(options.command_timeout / 2);
        let shards =
            Shards::connect(dial, ShardOptions { clients: options.clients, wait }, stop.clone()).await?;
        let wire = Wire::new(shards.clone(), Functions::default(), wait, metrics);
        let keys = Keys::new(&options.prefix);
        for shard in shards.map().serving() {
            let Ok(client) = shard.client() else { continue };
            wire.load_functions(&client).await.map_err(|error| ConnectError::functions(&error))?;
            // Fails where an ACL denies the keys.
            let slot = redis_keyslot(keys.janitor().as_bytes());
            if shards.of_slot(slot).is_ok_and(|owner| Arc::ptr_eq(&owner, &shard)) {
                ConnectError::unless_allowed(client.exists::<(), _>(keys.janitor()).await)?;
            }
        }
        Ok(Arc::new(Self {
            shards,
            wire,
            keys,
            options,
            reserve: Reserve::default(),
            notes: Notes::default(),
        }))
    }

    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    pub fn lanes(&self) -> usize {
        self.options.clients.max(1)
    }

    pub fn lane_of(&self, room: &RoomName) -> usize {
        usize::from(slot_of(room)) % self.lanes()
    }

    pub fn waits_for_replica(&self) -> bool {
        self.wire.waits()
    }

    pub fn shard_of(&self, room: &RoomName) -> Result<Arc<Shard>, Unavailable> {
        self.shards.of_slot(slot_of(room))
    }

    pub fn clustered(&self) -> bool {
        self.shards.clustered()
    }

    pub async fn ping(&self) -> bool {
        let shards = self.shards.map().serving();
        let answers = join_all(shards.iter().map(|shard| async {
            let Ok(client) = shard.client() else { return false };
            matches!(tokio::time::timeout(Duration::from_secs(1), client.ping::<()>(None)).await, Ok(Ok(())))
        }));
        answers.await.contains(&true)
    }

    /// Returns a call of a function of the library. The function derives the room's other names from this
    /// key.
    pub(super) fn function(
        &self,
        call: RedisCall,
        name: &str,
        key: String,
        args: impl IntoIterator<Item = Value>,
    ) -> Command {
        let mut all = vec![Value::from(self.wire.function(name)), Value::from(1), Value::from(key)];
        all.extend(args);
        Command { call, name: "FCALL", args: all }
    }

    /// Runs commands of one room, in order, in one round trip. Returns the reply of each.
    ///
    /// # Errors
    /// If any of them failed, or their outcome is unknown.
    pub(super) async fn run(
        &self,
        room: &RoomName,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<Vec<Value>, Unavailable> {
        self.run_in(slot_of(room), commands.into_iter().collect()).await
    }

    pub(super) async fn run_one(&self, room: &RoomName, command: Command) -> Result<Value, Unavailable> {
        self.run(room, [command]).await?.pop().ok_or(Unavailable)
    }

    pub(super) async fn run_on(&self, key: &str, command: Command) -> Result<Value, Unavailable> {
        self.run_in(redis_keyslot(key.as_bytes()), vec![command]).await?.pop().ok_or(Unavailable)
    }

    /// Runs one write on a key that belongs to no room, confirmed as messages are.
    ///
    /// # Errors
    /// As [`Store::run`]; and if no replica confirmed it where one must.
    pub(super) async fn confirm_on(&self, key: &str, command: Command) -> Result<Value, Unavailable> {
        let slot = redis_keyslot(key.as_bytes());
        let shard = self.shards.of_slot(slot)?;
        let replies = self.wire.append(&shard, shard.append_link(slot), &[(slot, command)]).await;
        replies.into_iter().next().ok_or(Unavailable)?.map_err(|_| Unavailable)
    }

    async fn run_in(&self, slot: u16, commands: Vec<Command>) -> Result<Vec<Value>, Unavailable> {
        let commands: Vec<_> = commands.into_iter().map(|command| (slot, command)).collect();
        let mut tries = Tries::new(self.options.command_timeout);
        loop {
            let replies = match self.shards.of_slot(slot) {
                Ok(shard) => self.wire.send(&shard, shard.link(slot), &commands).await,
                Err(Unavailable) => vec![Err(Failure::Again)],
            };
            match replies.into_iter().collect::<Result<_, Failure>>() {
                Ok(values) => return Ok(values),
                Err(Failure::Again) if tries.pause().await => {}
                Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Runs commands of many rooms: those of one shard in few round trips, the shards concurrently. Returns
    /// the outcome of each.
    pub(super) async fn run_each(
        &self,
        commands: Vec<(&RoomName, Command)>,
    ) -> Vec<Result<Value, Unavailable>> {
        let commands: Vec<_> = commands.into_iter().map(|(room, command)| (slot_of(room), command)).collect();
        let mut outcomes = vec![Err(Failure::Again); commands.len()];
        let mut tries = Tries::new(self.options.command_timeout);
        loop {
            let mut groups: HashMap<(usize, usize), (Arc<Shard>, Vec<usize>)> = HashMap::new();
            for (index, outcome) in outcomes.iter().enumerate() {
                let slot = commands[index].0;
                if *outcome == Err(Failure::Again)
                    && let Ok(shard) = self.shards.of_slot(slot)
                {
                    let group = (shard.number, usize::from(slot) % self.lanes());
                    groups.entry(group).or_insert_with(|| (shard, Vec::new())).1.push(index);
                }
            }
            let sent = groups.into_values().map(|(shard, indexes)| {
                let commands = &commands;
                async move {
                    let mut replies = Vec::with_capacity(indexes.len());
                    for indexes in indexes.chunks(PIPELINE) {
                        let link = shard.link(commands[indexes[0]].0);
                        let part: Vec<_> = indexes.iter().map(|index| commands[*index].clone()).collect();
                        replies.extend(self.wire.send(&shard, link, &part).await);
                    }
                    indexes.into_iter().zip(replies)
                }
            });
            for (index, reply) in join_all(sent).await.into_iter().flatten() {
                outcomes[index] = reply;
            }
            if !outcomes.contains(&Err(Failure::Again)) || !tries.pause().await {
                return outcomes.into_iter().map(|outcome| outcome.map_err(|_| Unavailable)).collect();
            }
        }
    }
}

pub(super) fn slot_of(room: &RoomName) -> u16 {
    redis_keyslot(room.as_str().as_bytes())
}

struct Tries {
    until: Instant,
    pause: Duration,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pause: PAUSES.0 }
    }

    /// Waits before the next attempt. Returns false if it is too late for one.
    async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause > self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        true
    }
}
