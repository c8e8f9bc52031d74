//! Pipelines to one shard: sending, reloading lost functions, following a cluster's redirections, waiting for
//! a replica. Every command gets an outcome of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, FunctionInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::functions::Functions;
use super::link::Link;
use super::redirect::Redirect;
use super::shards::{Shard, Shards};
use super::store::{Command, Failure};
use crate::telemetry::{Metrics, RedisCall};

/// Maximum number of keys of a slot that are searched for those of a room. A slot with more counts as having
/// some.
const KEYS_IN_SLOT: usize = 10_000;

/// Maximum number of warnings of failed commands in [`WARNINGS_PERIOD`]. Single failures are also logged with
/// their request or session.
const WARNINGS: u32 = 20;

const WARNINGS_PERIOD: Duration = Duration::from_secs(1);

pub(super) type InSlot = (u16, Command);

pub(super) struct Wire {
    shards: Arc<Shards>,
    functions: Functions,
    wait: Option<Duration>,
    metrics: Arc<Metrics>,
    warned: Mutex<Warned>,
}

#[derive(Default)]
struct Warned {
    since: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct RoundOptions {
    /// Sends `ASKING` before each command.
    asking: bool,
    /// Sends `WAIT` after all commands.
    waiting: bool,
}

impl Wire {
    pub(super) fn new(
        shards: Arc<Shards>,
        functions: Functions,
        wait: Option<Duration>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { shards, functions, wait, metrics, warned: Mutex::default() }
    }

    pub(super) fn function(&self, name: &str) -> String {
        self.functions.name(name)
    }

    pub(super) async fn load_functions(&self, client: &Client) -> Result<(), Error> {
        client.function_load::<(), _>(true, self.functions.code.as_str()).await
    }

    /// Sends commands of one shard over this link in one round trip. Returns the outcome of each.
    pub(super) async fn send(
        &self,
        shard: &Arc<Shard>,
        link: &Arc<Link>,
        commands: &[InSlot],
    ) -> Vec<Result<Value, Failure>> {
        self.exchange(shard, link, commands, false).await
    }

    pub(super) fn waits(&self) -> bool {
        self.wait.is_some()
    }

    /// Sends appends. Where they wait for a replica, and none has them in time, they count as failed.
    pub(super) async fn append(
        &self,
        shard: &Arc<Shard>,
        link: &Arc<Link>,
        commands: &[InSlot],
    ) -> Vec<Result<Value, Failure>> {
        self.exchange(shard, link, commands, self.waits()).await
    }

    async fn exchange(
        &self,
        shard: &Arc<Shard>,
        link: &Arc<Link>,
        commands: &[InSlot],
        waiting: bool,
    ) -> Vec<Result<Value, Failure>> {
        if !link.usable() {
            self.shards.look_again();
            return vec![Err(Failure::Unavailable); commands.len()];
        }
        let started = Instant::now();
        let options = RoundOptions { asking: false, waiting };
        // Boxed: fred's futures take several KB, which would be part of every future that sends a command,
        // and so of each connection.
        let mut replies = Box::pin(self.round(link, commands.iter(), options)).await;
        if replies.iter().any(|reply| reply.as_ref().is_err_and(|error| is_lost(error, shard))) {
            Box::pin(self.with_functions(shard, link, commands, options, &mut replies)).await;
        }
        let elapsed = started.elapsed();
        let mut asks: HashMap<Server, Vec<usize>> = HashMap::new();
        let mut outcomes = Vec::with_capacity(commands.len());
        for (index, (reply, (_, command))) in replies.into_iter().zip(commands).enumerate() {
            self.metrics.redis_call(command.call, elapsed, reply.is_ok());
            outcomes.push(match reply {
                Ok(value) => Ok(value),
                Err(error) => match Redirect::read(error.details(), &shard.server) {
                    Some(Redirect::Ask(_, target)) => {
                        asks.entry(target).or_default().push(index);
                        Err(Failure::Again)
                    }
                    redirect => Err(self.failure(command.call, &error, redirect)),
                },
            });
        }
        for (target, indexes) in asks {
            let asked = indexes.iter().map(|index| &commands[*index]).collect();
            let replies = Box::pin(self.follow(shard, &target, asked, waiting)).await;
            for (index, reply) in indexes.into_iter().zip(replies) {
                outcomes[index] = reply;
            }
        }
        outcomes
    }

    /// Loads the functions, and resends the calls that did not find theirs. It keeps their order, since a
    /// later command may rely on an earlier one, and waits for a replica again.
    async fn with_functions(
        &self,
        shard: &Shard,
        link: &Arc<Link>,
        commands: &[InSlot],
        options: RoundOptions,
        replies: &mut [Result<Value, Error>],
    ) {
        tracing::info!(server = %shard.server, "Redis lost the functions; loading them again");
        if let Err(error) = self.load_functions(&link.client()).await {
            tracing::warn!(%error, "the functions cannot be loaded");
        }
        let lost: Vec<usize> = (0..commands.len())
            .filter(|index| replies[*index].as_ref().is_err_and(|error| is_lost(error, shard)))
            .collect();
        let again = self.round(link, lost.iter().map(|index| &commands[*index]), options).await;
        for (index, reply) in lost.into_iter().zip(again) {
            replies[index] = reply;
        }
    }

    /// Follows `ASK`: sends commands to the target of a slot's migration, as far as all keys of their rooms
    /// are there.
    async fn follow(
        &self,
        source: &Arc<Shard>,
        target: &Server,
        commands: Vec<&InSlot>,
        waiting: bool,
    ) -> Vec<Result<Value, Failure>> {
        let mut outcomes = vec![Err(Failure::Again); commands.len()];
        let Ok(target) = self.shards.at(target) else { return outcomes };
        let slot = commands.first().map_or(0, |(slot, _)| *slot);
        let link = if waiting { target.append_link(slot) } else { target.link(slot) };
        if !link.usable() {
            return outcomes;
        }
        let mut left: HashMap<u16, Option<Vec<String>>> = HashMap::new();
        for (slot, command) in &commands {
            if command.function_key().is_some() && !left.contains_key(slot) {
                left.insert(*slot, keys_in_slot(source, *slot).await);
            }
        }
        let gone = |(slot, command): &InSlot| match command.function_key() {
            // A function creates missing keys, which would block those that are still to be migrated.
            Some(key) => left.get(slot).and_then(Option::as_ref).is_some_and(|left| {
                let room = key.rsplit_once("}:").map_or(key.as_str(), |(room, _)| room);
                !left.iter().any(|key| key.starts_with(room))
            }),
            None => true,
        };
        let ready: Vec<usize> = (0..commands.len()).filter(|index| gone(commands[*index])).collect();
        if ready.is_empty() {
            return outcomes;
        }
        let options = RoundOptions { asking: true, waiting };
        let replies = self.round(link, ready.iter().map(|index| commands[*index]), options).await;
        let mut lost = false;
        for (index, reply) in ready.into_iter().zip(replies) {
            outcomes[index] = reply.map_err(|error| match Redirect::read(error.details(), &target.server) {
                Some(Redirect::NoFunction) => {
                    lost = true;
                    Failure::Again
                }
                // The target no longer accepts the slot, or has it for good: the source knows.
                Some(Redirect::Moved(..)) => Failure::Again,
                redirect => self.failure(commands[index].1.call, &error, redirect),
            });
        }
        if lost && let Err(error) = self.load_functions(&link.client()).await {
            tracing::warn!(%error, "the functions cannot be loaded");
        }
        outcomes
    }

    fn failure(&self, call: RedisCall, error: &Error, redirect: Option<Redirect>) -> Failure {
        match redirect {
            Some(Redirect::Moved(slot, server)) => {
                self.shards.moved(slot, &server);
                Failure::Again
            }
            Some(Redirect::Ask(..) | Redirect::Again) => {
                self.shards.look_again();
                Failure::Again
            }
            Some(Redirect::NoFunction) | None => {
                if matches!(error.kind(), ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled) {
                    self.shards.look_again();
                }
                self.warn(call, error);
                Failure::Unavailable
            }
        }
    }

    /// Logs a failed command, a few times a second. The next line has the number of suppressed ones.
    fn warn(&self, call: RedisCall, error: &Error) {
        let mut warned = self.warned.lock();
        if warned.since.is_none_or(|since| since.elapsed() >= WARNINGS_PERIOD) {
            (warned.since, warned.logged) = (Some(Instant::now()), 0);
        }
        if warned.logged >= WARNINGS {
            warned.suppressed += 1;
            return;
        }
        warned.logged += 1;
        let suppressed = std::mem::take(&mut warned.suppressed);
        drop(warned);
        tracing::warn!(command = call.as_str(), %error, others = suppressed, "Redis failed a command");
    }

    /// Sends commands as one pipeline, and returns one reply for each. Uses `custom` instead of fred's own
    /// FCALL, which fred treats as blocking and flushes singly.
    async fn round<'a>(
        &self,
        link: &Arc<Link>,
        commands: impl ExactSizeIterator<Item = &'a InSlot>,
        RoundOptions { asking, waiting }: RoundOptions,
    ) -> Vec<Result<Value, Error>> {
        #[cfg(test)]
        if let Some(end) = link.end() {
            return end.exchange(commands.map(|(_, command)| command)).await;
        }
        let client = link.client();
        let count = commands.len();
        let mut commands = commands;
        if count == 1
            && !asking
            && !waiting
            && let Some((slot, command)) = commands.next()
        {
            let reply = client.custom(custom(command.name, *slot, false), command.args.clone()).await;
            if !reply.as_ref().is_err_and(is_silence) {
                link.answered();
            }
            return vec![reply];
        }
        let pipeline = client.pipeline();
        // Commands queued in a pipeline return at once.
        let queue = async {
            for (slot, command) in commands {
                if asking {
                    pipeline.custom::<Value, _>(custom("ASKING", *slot, false), Vec::<Value>::new()).await?;
                }
                pipeline.custom::<Value, _>(custom(command.name, *slot, false), command.args.clone()).await?;
            }
            if let Some(wait) = self.wait.filter(|_| waiting) {
                let args = vec![Value::from(1), Value::from(wait.as_millis() as i64)];
                pipeline.custom::<Value, _>(custom("WAIT", 0, true), args).await?;
            }
            Ok::<_, Error>(())
        };
        let started = Instant::now();
        let mut replies = match queue.await {
            Ok(()) => pipeline.try_all::<Value>().await,
            Err(error) => vec![Err(error)],
        };
        if replies.first().is_some_and(|reply| !reply.as_ref().is_err_and(is_silence)) {
            link.answered();
        }
        let sent = if asking { 2 * count } else { count } + usize::from(waiting);
        if replies.len() != sent {
            // The whole pipeline failed, with a single error.
            let error = match replies.pop() {
                Some(Err(error)) => error,
                _ => Error::new(ErrorKind::Protocol, "replies are missing"),
            };
            return vec![Err(error); count];
        }
        if waiting {
            let replicas = replies.pop();
            let replicated = matches!(replicas, Some(Ok(Value::Integer(1..))));
            self.metrics.redis_call(RedisCall::Wait, started.elapsed(), replicated);
            if !replicated {
                let error = Error::new(ErrorKind::Unknown, "no replica had it in time");
                for reply in &mut replies {
                    if reply.is_ok() {
                        *reply = Err(error.clone());
                    }
                }
            }
        }
        if asking { replies.into_iter().skip(1).step_by(2).collect() } else { replies }
    }
}

fn custom(name: &'static str, slot: u16, blocks: bool) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::Custom(slot), blocks)
}

fn is_lost(error: &Error, shard: &Shard) -> bool {
    Redirect::read(error.details(), &shard.server) == Some(Redirect::NoFunction)
}

/// Returns true if an error is the client's own, and not a reply.
fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled)
}

/// Returns the keys that a server has in a slot; `None` if there are too many, or it does not say.
async fn keys_in_slot(shard: &Shard, slot: u16) -> Option<Vec<String>> {
    let client = shard.client().ok()?;
    let args =
        vec![Value::from("GETKEYSINSLOT"), Value::from(i64::from(slot)), Value::from(KEYS_IN_SLOT as i64)];
    let keys = client.custom::<Value, _>(custom("CLUSTER", slot, false), args).await.ok()?.into_array();
    (keys.len() < KEYS_IN_SLOT).then(|| keys.into_iter().filter_map(Value::into_string).collect())
}
