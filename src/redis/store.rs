//! How a command reaches Redis and its reply comes back: which link, which slot, what an error means. The operations
//! themselves are in the sibling files, each as an `impl Store` of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, FunctionInterface, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Value};
use fred::util::redis_keyslot;

use super::durability::Durability;
use super::functions::Functions;
use super::keys::Keys;
use super::link::Link;
use super::refusal::ConnectError;
use super::reserve::Reserve;
use crate::log::Unavailable;
use crate::protocol::RoomName;
use crate::telemetry::{Metrics, RedisCall};
use tokio_util::sync::CancellationToken;

/// What [`Store::connect`] needs to know.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where Redis is.
    pub url: String,
    /// Before the name of every key.
    pub prefix: String,
    /// Command connections; a room always uses the same one, so that a sender's messages keep their order.
    pub clients: usize,
    /// When a publish counts as stored.
    pub durability: Durability,
    /// After how long a command counts as lost.
    pub command_timeout: Duration,
    /// For how long, at the least, a message's key is remembered.
    pub deduplication_window: Duration,
}

/// The rooms' logs in Redis. All that it does is atomic in Redis, or idempotent.
pub struct Store {
    links: Vec<Arc<Link>>,
    pub(super) keys: Keys,
    functions: Functions,
    pub(super) options: StoreOptions,
    pub(super) reserve: Reserve,
    metrics: Arc<Metrics>,
}

/// One command of a room: what it is called in the metrics, its name and its arguments.
#[derive(Clone)]
pub(super) struct Command {
    call: RedisCall,
    name: &'static str,
    args: Vec<Value>,
    blocks: bool,
}

impl Command {
    /// A command of Redis itself.
    pub fn new(call: RedisCall, name: &'static str, args: impl IntoIterator<Item = Value>) -> Self {
        Self { call, name, args: args.into_iter().collect(), blocks: false }
    }
}

impl Store {
    /// Connects, and loads the functions on every primary.
    ///
    /// # Errors
    /// If Redis does not answer, or refuses the functions, as it does before version 7, or the keys.
    pub async fn connect(
        options: StoreOptions,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let mut links = Vec::new();
        for _ in 0..options.clients.max(1) {
            links.push(Link::connect(&options.url, options.command_timeout, None, stop.clone()).await?);
        }
        let store = Self {
            links,
            keys: Keys::new(&options.prefix),
            functions: Functions::default(),
            options,
            reserve: Reserve::default(),
            metrics,
        };
        let client = store.links[0].client();
        store.load_functions(&client).await.map_err(|error| ConnectError::functions(&error))?;
        // Where an ACL denies the keys, this fails.
        ConnectError::unless_allowed(client.exists(store.keys.janitor()).await)?;
        Ok(Arc::new(store))
    }

    /// How many command connections there are.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Which of the command connections serves a room.
    pub fn link_of(&self, room: &RoomName) -> usize {
        usize::from(redis_keyslot(room.as_str().as_bytes())) % self.links.len()
    }

    /// Whether Redis answers now.
    ///
    /// # Errors
    /// If it does not, within a second.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        let client = self.links[0].client();
        if !self.links[0].usable() {
            return Err(Unavailable);
        }
        match tokio::time::timeout(Duration::from_secs(1), client.ping::<()>(None)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unavailable),
        }
    }

    /// A client for what concerns no room: scans, leases, `INFO`.
    pub(super) fn any_client(&self) -> Result<Client, Unavailable> {
        if self.links[0].usable() { Ok(self.links[0].client()) } else { Err(Unavailable) }
    }

    /// Whether Redis is a cluster.
    pub fn clustered(&self) -> bool {
        self.links[0].clustered()
    }

    /// A call of one of the library's functions, which finds the other names of the room by that of this key.
    pub(super) fn function(
        &self,
        call: RedisCall,
        name: &str,
        key: String,
        args: impl IntoIterator<Item = Value>,
    ) -> Command {
        let mut all = vec![Value::from(self.functions.name(name)), Value::from(1), Value::from(key)];
        all.extend(args);
        Command { call, name: "FCALL", args: all, blocks: false }
    }

    /// `WAIT` for one replica, for as long as a command may take.
    pub(super) fn wait(&self) -> Command {
        let timeout = self.options.command_timeout.as_millis() as i64 / 2;
        let args = vec![Value::from(1), Value::from(timeout)];
        Command { call: RedisCall::Wait, name: "WAIT", args, blocks: true }
    }

    /// Runs commands of one room, in order, in one round trip; the reply of each.
    ///
    /// # Errors
    /// If any of them failed, or their outcome is unknown.
    pub(super) async fn run(
        &self,
        room: &RoomName,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<Vec<Value>, Unavailable> {
        let commands = commands.into_iter().map(|command| (room, command)).collect();
        self.run_many(self.link_of(room), commands).await.into_iter().collect()
    }

    /// Runs one command of a room.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub(super) async fn run_one(&self, room: &RoomName, command: Command) -> Result<Value, Unavailable> {
        self.run(room, [command]).await?.pop().ok_or(Unavailable)
    }

    /// Runs commands of many rooms of one link in one round trip; the outcome of each.
    pub(super) async fn run_many(
        &self,
        link: usize,
        commands: Vec<(&RoomName, Command)>,
    ) -> Vec<Result<Value, Unavailable>> {
        let link = &self.links[link];
        if !link.usable() {
            return commands.iter().map(|_| Err(Unavailable)).collect();
        }
        let client = link.client();
        let started = Instant::now();
        // fred's futures have several KB, which would be part of every future that asks Redis for something: a connection's too.
        let mut replies = Box::pin(send(&client, &commands)).await;
        let lost = |reply: &Result<Value, Error>| reply.as_ref().is_err_and(are_functions_lost);
        if replies.iter().any(lost) {
            tracing::info!("Redis lost the functions; loading them again");
            if let Err(error) = Box::pin(self.load_functions(&client)).await {
                tracing::warn!(%error, "the functions cannot be loaded");
            }
            // In order, since a later command may rely on an earlier one.
            for (reply, command) in replies.iter_mut().zip(&commands) {
                if lost(reply) {
                    *reply = Box::pin(send(&client, std::slice::from_ref(command))).await.remove(0);
                }
            }
        }
        let elapsed = started.elapsed();
        replies
            .into_iter()
            .zip(&commands)
            .map(|(reply, (_, command))| {
                self.metrics.redis_call(command.call, elapsed, reply.is_ok());
                reply.map_err(|error| {
                    tracing::warn!(command = command.call.as_str(), %error, "Redis failed a command");
                    Unavailable
                })
            })
            .collect()
    }

    /// Runs one call of a function on a key that belongs to no room.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub(super) async fn run_on(&self, key: &str, command: Command) -> Result<Value, Unavailable> {
        let client = self.any_client()?;
        let slot = ClusterHash::Custom(redis_keyslot(key.as_bytes()));
        let started = Instant::now();
        let call = async || -> Result<Value, Error> {
            let custom = CustomCommand::new_static(command.name, slot.clone(), command.blocks);
            client.custom(custom, command.args.clone()).await
        };
        let mut reply = Box::pin(call()).await;
        if reply.as_ref().is_err_and(are_functions_lost)
            && Box::pin(self.load_functions(&client)).await.is_ok()
        {
            reply = Box::pin(call()).await;
        }
        self.metrics.redis_call(command.call, started.elapsed(), reply.is_ok());
        reply.map_err(|error| {
            tracing::warn!(command = command.call.as_str(), %error, "Redis failed a command");
            Unavailable
        })
    }

    async fn load_functions(&self, client: &Client) -> Result<(), Error> {
        client.function_load_cluster::<(), _>(true, self.functions.code.as_str()).await
    }
}

fn are_functions_lost(error: &Error) -> bool {
    error.details().starts_with("ERR Function not found")
}

/// Sends commands as one pipeline. `custom`, not fred's own FCALL, which it holds for blocking and flushes singly.
async fn send(client: &Client, commands: &[(&RoomName, Command)]) -> Vec<Result<Value, Error>> {
    let custom = |room: &RoomName, command: &Command| {
        let slot = ClusterHash::Custom(redis_keyslot(room.as_str().as_bytes()));
        CustomCommand::new_static(command.name, slot, command.blocks)
    };
    if let [(room, command)] = commands {
        return vec![client.custom(custom(room, command), command.args.clone()).await];
    }
    let pipeline = client.pipeline();
    for (room, command) in commands {
        if let Err(error) = pipeline.custom::<Value, _>(custom(room, command), command.args.clone()).await {
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
    }
    let replies = pipeline.try_all::<Value>().await;
    match replies.first() {
        Some(Err(error)) if replies.len() != commands.len() => {
            commands.iter().map(|_| Err(error.clone())).collect()
        }
        _ => replies,
    }
}
