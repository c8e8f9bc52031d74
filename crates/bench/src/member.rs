//! A member of a room: a connection that has joined it, receives and checks its messages, and may publish.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::dialect::{Heard, Hello};
use super::frame::{data, read_data};
use super::line::Line;
use super::tally::{Tally, count};
use super::track::Track;
use super::{BenchError, Target};
use roomlog_protocol::Encoding;

/// Time limit for a join, however many others join at the same time.
const JOINED_WITHIN: Duration = Duration::from_secs(60);

/// The messages that a member has received. Outlives its connections.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub track: RefCell<Track>,
    /// The id of the newest message.
    pub last_id: RefCell<String>,
    /// Notified of each message.
    came: Notify,
}

impl Record {
    /// Waits until the member has this many messages, not counting duplicates.
    pub async fn has(&self, messages: u64) {
        loop {
            let came = self.came.notified();
            if self.track.borrow().lost(messages) == 0 {
                return;
            }
            came.await;
        }
    }
}

/// The options of a join.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join<'a> {
    /// Index of the target's node to connect to, modulo their number.
    pub node: usize,
    pub room: &'a str,
    pub encoding: Encoding,
    /// The id after which delivery starts.
    pub since: Option<&'a str>,
    /// The name of its durable subscription, if it has one. It then acknowledges each message.
    pub durable: Option<&'a str>,
    /// Set for a member that will stop reading: its buffers are small, and its latency does not count.
    pub slow: bool,
}

/// A member. Dropping it cuts its connection.
#[derive(Debug)]
pub(super) struct Member {
    inner: Rc<Inner>,
    /// The connection for publishing, if it is not the one for receiving.
    publisher: OnceCell<(Rc<Line>, AbortOnDropHandle<()>)>,
    _reader: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    line: Rc<Line>,
    address: SocketAddr,
    tally: Rc<Tally>,
    room: String,
    slow: bool,
    record: Rc<Record>,
    /// Number of messages that it has published. Messages are numbered from 1.
    published: Cell<u64>,
    in_flight: Cell<u64>,
    confirmed: Notify,
    broken: Cell<bool>,
    paused: Cell<bool>,
    resumed: Notify,
}

impl Member {
    /// Connects, joins, and returns when the room is live.
    pub async fn join(
        target: &Target,
        join: Join<'_>,
        record: Rc<Record>,
        tally: &Rc<Tally>,
    ) -> Result<Self, BenchError> {
        let Join { node, room, encoding, since, durable, slow } = join;
        let address = target.address(node);
        let late = || BenchError::Late(JOINED_WITHIN, format!("joining {room} at {address}"));
        let joining = async {
            let speech =
                target.dialect.speech(encoding, Hello { token: &target.token, room, since, durable });
            let line = Rc::new(Line::open(address, tally.next_connection(), speech, slow).await?);
            let inner = Rc::new(Inner {
                line: line.clone(),
                address,
                tally: tally.clone(),
                room: room.to_owned(),
                slow,
                record,
                published: Cell::default(),
                in_flight: Cell::default(),
                confirmed: Notify::new(),
                broken: Cell::default(),
                paused: Cell::default(),
                resumed: Notify::new(),
            });
            let broken = |error| BenchError::Io(format!("joining {room} at {address}"), error);
            while !line.is_live() {
                line.receive(|heard| inner.take(heard)).await.map_err(broken)?;
                if let Some(error) = inner.tally.first_error.take() {
                    return Err(BenchError::Refused(error));
                }
            }
            let reader = tokio::task::spawn_local(inner.clone().read(line));
            Ok(Self { inner, publisher: OnceCell::new(), _reader: AbortOnDropHandle::new(reader) })
        };
        timeout(JOINED_WITHIN, joining).await.map_err(|_| late())?
    }

    /// Publishes this many messages with one write.
    pub async fn publish(&self, messages: u64, bytes: usize) {
        let inner = &*self.inner;
        let line = match self.publisher().await {
            Ok(line) => line,
            Err(error) => {
                inner.broken.set(true);
                return inner.tally.error(|| format!("publishing to {}: {error}", inner.room));
            }
        };
        let all = (0..messages).map(|_| {
            count(&inner.published, 1);
            count(&inner.in_flight, 1);
            data(inner.tally.now(), inner.published.get(), bytes)
        });
        if let Err(error) = line.publish(all).await {
            inner.tally.error(|| format!("publishing to {}: {error}", inner.room));
        }
    }

    /// Returns the connection for publishing, establishing it before the first message.
    async fn publisher(&self) -> Result<&Line, BenchError> {
        if let Some((line, _)) = self.publisher.get() {
            return Ok(line);
        }
        let inner = &self.inner;
        let Some(speech) = inner.line.publisher() else { return Ok(&inner.line) };
        let line = Rc::new(Line::open(inner.address, inner.tally.next_connection(), speech, false).await?);
        let reader = tokio::task::spawn_local(inner.clone().read(line.clone()));
        let own = self.publisher.get_or_init(|| (line, AbortOnDropHandle::new(reader)));
        Ok(&own.0)
    }

    /// Waits until fewer than `most` publishes are unconfirmed, and returns how many more may be sent.
    pub async fn window(&self, most: u64) -> u64 {
        loop {
            let confirmed = self.inner.confirmed.notified();
            match most.saturating_sub(self.inner.in_flight.get()) {
                0 => confirmed.await,
                more => return more,
            }
        }
    }

    pub fn published(&self) -> u64 {
        self.inner.published.get()
    }

    /// Returns whether its connection has ended.
    pub fn is_broken(&self) -> bool {
        self.inner.broken.get()
    }

    /// Returns whether it is one of the members that stop reading.
    pub fn is_slow(&self) -> bool {
        self.inner.slow
    }

    /// Stops reading, or resumes it.
    pub fn pause(&self, paused: bool) {
        self.inner.paused.set(paused);
        self.inner.resumed.notify_one();
    }
}

impl Inner {
    /// Receives until the connection ends, which it should not.
    async fn read(self: Rc<Self>, line: Rc<Line>) {
        loop {
            while self.paused.get() {
                self.resumed.notified().await;
            }
            if let Err(error) = line.receive(|heard| self.take(heard)).await {
                self.tally.error(|| format!("a connection to {} ended: {error}", self.room));
                self.broken.set(true);
                self.in_flight.set(0);
                return self.confirmed.notify_one();
            }
        }
    }

    fn take(&self, heard: Heard<'_>) {
        match heard {
            Heard::Message { room, id, data } => self.message(room, id, data),
            Heard::Confirmed => {
                count(&self.tally.confirmed, 1);
                self.answered();
            }
            Heard::Refused { publish, why } => {
                self.tally.error(|| format!("refused in {}: {why}", self.room));
                if publish {
                    self.answered();
                }
            }
            // The line keeps track of that.
            Heard::Live => {}
        }
    }

    /// Notes that a publish is no longer in flight.
    fn answered(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.confirmed.notify_one();
    }

    fn message(&self, room: &str, id: &str, data: &str) {
        let Some((sent, number)) = read_data(data) else {
            return self.tally.error(|| format!("a message in {} that nobody here published", self.room));
        };
        if room != self.room {
            return self.tally.error(|| format!("a message of another room in {}", self.room));
        }
        if self.record.track.borrow_mut().take(number) {
            let mut last_id = self.record.last_id.borrow_mut();
            last_id.clear();
            last_id.push_str(id);
            self.record.came.notify_one();
            count(&self.tally.received, 1);
            if !self.slow {
                self.tally.delivered(sent);
            }
        }
    }
}
