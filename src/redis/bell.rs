//! The bell: a shard channel for each room that is active on this node, on which Redis sends live copies of what was
//! appended, signals and notices. It may lose, repeat or reorder: it is an accelerator, and the log is the truth.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::PubsubInterface;
use fred::types::Value;
use fred::util::redis_keyslot;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keys::Keys;
use super::link::{Link, LinkEvent};
use super::log::message;
use super::refusal::ConnectError;
use super::store::{Store, StoreOptions};
use super::subscriptions::Group;
use crate::log::{Entry, Unavailable};
use crate::protocol::data::{self, Head};
use crate::protocol::{Data, MessageId, RoomName, UserId};
use crate::telemetry::RedisCall;

/// How often all subscriptions are made again: after a cluster moved a slot, a subscription can be deaf without any event.
const RESUBSCRIBE_INTERVAL: Duration = Duration::from_secs(30);

/// How long to wait before looking again whether the connection is usable.
const UNUSABLE_PAUSE: Duration = Duration::from_millis(50);

/// Channels in one command.
const CHANNELS_AT_ONCE: usize = 256;

/// Kept subscribed so that fred subscribes again after a reconnect: with shard channels only, it forgets some.
pub(super) const DUMMY: &str = "roomlog:dummy";

/// What the bell says of a room.
#[derive(Debug)]
pub enum Ring {
    /// Messages were appended.
    Messages(Vec<Arc<Entry>>),
    /// Somebody present has something to say.
    Signal(Signal),
    /// A connection took a durable subscription over.
    Taken {
        /// The subscription.
        group: Group,
        /// Who held it before.
        holder: String,
    },
    /// A durable subscription was deleted.
    Forgotten {
        /// The subscription.
        group: Group,
        /// Who held it.
        holder: String,
    },
    /// Messages were deleted or trimmed: those before this id that are kept in memory are not to be read any more.
    Forget(MessageId),
    /// The room was deleted, when this was its newest id.
    Deleted(MessageId),
}

/// What happens on the bell's connection.
#[derive(Debug)]
pub enum BellEvent {
    /// A room's bell rang.
    Ring(RoomName, Ring),
    /// Rings may have been lost, of any room.
    Interrupted,
}

/// A signal on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The connection that sent it, which does not get it back.
    pub session: Uuid,
    /// Its user.
    pub from: UserId,
    /// What kind of signal.
    pub kind: String,
    /// Its content.
    pub data: Data,
    /// The one user who shall get it.
    pub to: Option<UserId>,
}

/// Gets what happens on the bell's connection. Must not block.
pub type Ear = Arc<dyn Fn(BellEvent) + Send + Sync>;

/// The node's ear: which rooms' bells it listens to.
pub struct Bell {
    link: Arc<Link>,
    keys: Keys,
    /// How many listen to each channel here.
    wanted: Mutex<HashMap<String, usize>>,
    requests: mpsc::Sender<(String, oneshot::Sender<bool>)>,
    ear: Ear,
}

impl Bell {
    /// Connects, and hears until `stop`.
    ///
    /// # Errors
    /// If Redis does not answer, or denies channels.
    pub async fn connect(
        options: &StoreOptions,
        ear: Ear,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let keys = Keys::new(&options.prefix);
        let (interrupted, interruptions) = mpsc::channel(1);
        let (channels, hear) = (keys.clone(), ear.clone());
        let listener = Arc::new(move |event: LinkEvent| match event {
            LinkEvent::Message(message) => {
                if let Some(room) = channels.room_of_bell(&message.channel) {
                    match message.value.into_bytes().and_then(|payload| ring(&room, &payload)) {
                        Some(ring) => hear(BellEvent::Ring(room, ring)),
                        None => tracing::debug!(%room, "the bell rang with something unknown"),
                    }
                }
            }
            LinkEvent::Reconnected => {
                let _one_is_waiting_already = interrupted.try_send(());
                hear(BellEvent::Interrupted);
            }
            LinkEvent::Lagged => hear(BellEvent::Interrupted),
        });
        let link = Link::connect(&options.url, options.command_timeout, Some(listener), stop.clone()).await?;
        // Where an ACL denies the channels, publishing fails; of all ways to subscribe the client reports that for one alone.
        let trial = async {
            link.client().spublish::<(), _, _>(keys.bell(&RoomName::canary("trial")), "").await?;
            link.client().publish::<(), _, _>(DUMMY, "").await
        };
        ConnectError::unless_allowed(trial.await)?;
        let (requests, waiting) = mpsc::channel(CHANNELS_AT_ONCE);
        let bell = Arc::new(Self { link, keys, wanted: Mutex::default(), requests, ear });
        bell.subscribe_to_dummies().await;
        tokio::spawn(bell.clone().subscribe(waiting, stop.clone()));
        tokio::spawn(bell.clone().resubscribe(interruptions, stop));
        Ok(bell)
    }

    /// Whether its connection stands, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.link.usable()
    }

    /// Listens to a room's bell, until as many calls of [`Bell::unlisten`]. Subscriptions that are asked for at once go to
    /// Redis together.
    ///
    /// # Errors
    /// If Redis cannot be reached; then nothing was changed.
    pub async fn listen(&self, room: &RoomName) -> Result<(), Unavailable> {
        let channel = self.keys.bell(room);
        *self.wanted.lock().entry(channel.clone()).or_default() += 1;
        let (done, heard) = oneshot::channel();
        let asked = self.requests.send((channel.clone(), done)).await;
        if asked.is_ok() && heard.await == Ok(true) {
            return Ok(());
        }
        self.no_longer_wanted(&[channel]);
        Err(Unavailable)
    }

    /// Stops listening to rooms' bells.
    pub async fn unlisten(&self, rooms: &[RoomName]) {
        let channels: Vec<String> = rooms.iter().map(|room| self.keys.bell(room)).collect();
        let channels = self.no_longer_wanted(&channels);
        for group in self.by_slot(channels.clone()) {
            if let Err(error) = self.link.client().sunsubscribe(group).await {
                tracing::debug!(%error, "a bell could not be left");
            }
        }
        // Somebody may have begun to listen while this was on its way, and have been cut off by it.
        let wanted_again = {
            let wanted = self.wanted.lock();
            channels.into_iter().filter(|channel| wanted.contains_key(channel)).collect()
        };
        self.subscribe_to(wanted_again).await;
    }

    /// Counts listeners down. The channels that are left with none.
    fn no_longer_wanted(&self, channels: &[String]) -> Vec<String> {
        let mut wanted = self.wanted.lock();
        let mut left = Vec::new();
        for channel in channels {
            if let Some(count) = wanted.get_mut(channel) {
                *count -= 1;
                if *count == 0 {
                    wanted.remove(channel);
                    left.push(channel.clone());
                }
            }
        }
        left
    }

    async fn subscribe(
        self: Arc<Self>,
        mut waiting: mpsc::Receiver<(String, oneshot::Sender<bool>)>,
        stop: CancellationToken,
    ) {
        let mut requests = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = waiting.recv_many(&mut requests, CHANNELS_AT_ONCE) => if count == 0 { return },
            }
            let channels = requests.iter().map(|(channel, _)| channel.clone()).collect();
            let heard = self.subscribe_to(channels).await;
            for (_, done) in requests.drain(..) {
                let _gone = done.send(heard);
            }
        }
    }

    /// Subscribes anew: twice after an interruption, since the first try may only learn where a slot is now; and from
    /// time to time.
    async fn resubscribe(self: Arc<Self>, mut interruptions: mpsc::Receiver<()>, stop: CancellationToken) {
        loop {
            let tries = tokio::select! {
                () = stop.cancelled() => return,
                interruption = interruptions.recv() => if interruption.is_some() { 2 } else { return },
                () = tokio::time::sleep(RESUBSCRIBE_INTERVAL) => 1,
            };
            if !self.link.clustered() && tries == 1 {
                continue;
            }
            // The connection is back before its pings are: what is asked for until then is refused, and would be forgotten.
            while !self.link.usable() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(UNUSABLE_PAUSE) => {}
                }
            }
            for _ in 0..tries {
                self.subscribe_to_dummies().await;
                let channels: Vec<String> = self.wanted.lock().keys().cloned().collect();
                for channels in channels.chunks(CHANNELS_AT_ONCE) {
                    self.subscribe_to(channels.to_vec()).await;
                }
            }
            // What rang while nobody listened is found by comparing positions once more.
            (self.ear)(BellEvent::Interrupted);
        }
    }

    async fn subscribe_to(&self, channels: Vec<String>) -> bool {
        if !self.link.usable() {
            return false;
        }
        let mut heard = true;
        for group in self.by_slot(channels) {
            let client = self.link.client();
            if client.ssubscribe(group.clone()).await.is_err()
                && let Err(error) = client.ssubscribe(group).await
            {
                tracing::warn!(%error, "a bell cannot be heard");
                heard = false;
            }
        }
        heard
    }

    async fn subscribe_to_dummies(&self) {
        let client = self.link.client();
        if let Err(error) = async {
            client.subscribe(DUMMY).await?;
            client.psubscribe(DUMMY).await
        }
        .await
        {
            tracing::debug!(%error, "the dummy channels cannot be heard");
        }
    }

    /// Channels of one slot together, as a cluster wants them; all together elsewhere.
    fn by_slot(&self, channels: Vec<String>) -> Vec<Vec<String>> {
        if !self.link.clustered() {
            return if channels.is_empty() { Vec::new() } else { vec![channels] };
        }
        let mut slots: HashMap<u16, Vec<String>> = HashMap::new();
        for channel in channels {
            slots.entry(redis_keyslot(channel.as_bytes())).or_default().push(channel);
        }
        slots.into_values().collect()
    }
}

impl Store {
    /// Rings a room's bell with a signal.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn signal(&self, room: &RoomName, signal: &Signal) -> Result<(), Unavailable> {
        let command = super::store::Command::new(
            RedisCall::Signal,
            "SPUBLISH",
            [Value::from(self.keys.bell(room)), Value::Bytes(encode_signal(signal))],
        );
        self.run_one(room, command).await.map(drop)
    }
}

/// A signal as the bell carries it: an array of `s`, session, from, type, data, and the one it is for.
fn encode_signal(signal: &Signal) -> Bytes {
    let mut out = vec![0x96];
    let mut write = |part: &[u8]| {
        let _infallible = rmp::encode::write_bin(&mut out, part);
    };
    write(b"s");
    write(signal.session.as_bytes());
    write(signal.from.as_str().as_bytes());
    write(signal.kind.as_bytes());
    write(signal.data.as_bytes());
    write(signal.to.as_ref().map_or("", UserId::as_str).as_bytes());
    out.into()
}

/// Reads what rang: a MessagePack array of texts or binaries, the first of which says what it is.
pub(crate) fn ring(room: &RoomName, payload: &Bytes) -> Option<Ring> {
    let parts = parts(payload)?;
    let (kind, parts) = parts.split_first()?;
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    match (*kind, parts) {
        (b"m", parts) if !parts.is_empty() && parts.len() % 5 == 0 => {
            let entry = |parts: &[&[u8]]| {
                let id = std::str::from_utf8(parts[0]).ok()?.parse().ok()?;
                let fields = [Some(parts[1]), Some(parts[2]), Some(parts[3]), Some(parts[4])];
                Some(Arc::new(Entry::new(message(room, id, fields))))
            };
            parts.chunks(5).map(entry).collect::<Option<Vec<_>>>().map(Ring::Messages)
        }
        (b"s", [session, from, kind, data, to]) => Some(Ring::Signal(Signal {
            session: Uuid::from_slice(session).ok()?,
            from: text(from)?.parse().ok()?,
            kind: text(kind)?,
            data: Data::from_msgpack(Bytes::copy_from_slice(data)).ok()?,
            to: if to.is_empty() { None } else { Some(text(to)?.parse().ok()?) },
        })),
        (b"t", [group, holder]) => Some(Ring::Taken { group: text(group)?.into(), holder: text(holder)? }),
        (b"f", [group, holder]) => {
            Some(Ring::Forgotten { group: text(group)?.into(), holder: text(holder)? })
        }
        (b"x", [before]) => Some(Ring::Forget(text(before)?.parse().ok()?)),
        (b"d", [head]) => Some(Ring::Deleted(text(head)?.parse().ok()?)),
        _ => None,
    }
}

fn parts(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut input = payload;
    let Ok(Head::Array(count)) = data::read_head(&mut input) else { return None };
    let mut parts = Vec::new();
    for _ in 0..count {
        match data::read_head(&mut input) {
            Ok(Head::Text(length) | Head::Binary(length)) => parts.push(data::take(&mut input, length).ok()?),
            _ => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signal_rings_as_it_was_sent() {
        let signal = Signal {
            session: Uuid::new_v4(),
            from: "ann".parse().unwrap(),
            kind: "typing".into(),
            data: Data::from_json("{\"a\":[1]}").unwrap(),
            to: Some("bob".parse().unwrap()),
        };
        let room = "chat".parse().unwrap();
        for to in [None, signal.to.clone()] {
            let signal = Signal { to, ..signal.clone() };
            let Some(Ring::Signal(heard)) = ring(&room, &encode_signal(&signal)) else { panic!("no signal") };
            assert_eq!(heard, signal);
        }
    }

    proptest! {
        #[test]
        fn anything_may_ring(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ring(&"chat".parse().unwrap(), &payload.into());
        }
    }
}
