//! A member of a room: a connection that has joined it, receives and checks its messages, and may publish.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::frame::{Frame, Request, data, read_data};
use super::socket::{Inbox, Socket};
use super::tally::{Tally, count};
use super::track::Track;
use super::{BenchError, Target};
use crate::protocol::Encoding;

/// Time in which a member must have joined, however many others do at the same time.
const JOINED_WITHIN: Duration = Duration::from_secs(60);

/// References of the requests of which each member has one. Publishes have the next one.
const CONNECT: u64 = 1;
const SUBSCRIBE: u64 = 2;
const PUBLISH: u64 = 3;

/// What a member has had: outlives its connections.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Its messages.
    pub track: RefCell<Track>,
    /// The id of the newest.
    pub last_id: RefCell<String>,
}

/// How to join.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join<'a> {
    /// Which of the target's nodes it connects to, counted round.
    pub node: usize,
    pub room: &'a str,
    pub encoding: Encoding,
    /// The id after which delivery starts.
    pub since: Option<&'a str>,
    /// The name of its durable subscription, if it has one; it then acknowledges each message.
    pub durable: Option<&'a str>,
    /// Whether its buffers are small and its latency does not count: it will stop reading.
    pub slow: bool,
}

/// A member. Dropping it cuts its connection.
#[derive(Debug)]
pub(super) struct Member {
    inner: Rc<Inner>,
    _reader: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    tally: Rc<Tally>,
    room: String,
    slow: bool,
    durable: bool,
    record: Rc<Record>,
    /// Acknowledgements that are to be written.
    acks: RefCell<Vec<u8>>,
    joined: Cell<bool>,
    /// Messages that it published, which are numbered so.
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
            let socket = Socket::open(address, tally.next_connection(), encoding, slow).await?;
            let connect = Request {
                op: "connect",
                reference: Some(CONNECT),
                token: Some(&target.token),
                ..Request::default()
            };
            let subscribe = Request {
                op: "subscribe",
                reference: Some(SUBSCRIBE),
                room: Some(room),
                since,
                durable,
                ..Request::default()
            };
            let mut hello = Vec::new();
            socket.frame(&connect.encode(encoding), &mut hello);
            socket.frame(&subscribe.encode(encoding), &mut hello);
            let inner = Rc::new(Inner {
                socket,
                tally: tally.clone(),
                room: room.to_owned(),
                slow,
                durable: durable.is_some(),
                record,
                acks: RefCell::default(),
                joined: Cell::default(),
                published: Cell::default(),
                in_flight: Cell::default(),
                confirmed: Notify::new(),
                broken: Cell::default(),
                paused: Cell::default(),
                resumed: Notify::new(),
            });
            let broken = |error| BenchError::Io(format!("joining {room} at {address}"), error);
            inner.socket.write(&hello).await.map_err(broken)?;
            let mut inbox = Inbox::default();
            while !inner.joined.get() {
                inner.socket.receive(&mut inbox, |frame| inner.take(&frame)).await.map_err(broken)?;
                if let Some(error) = inner.tally.first_error.take() {
                    return Err(BenchError::Refused(error));
                }
            }
            Ok(Self {
                inner: inner.clone(),
                _reader: AbortOnDropHandle::new(tokio::task::spawn_local(inner.read(inbox))),
            })
        };
        timeout(JOINED_WITHIN, joining).await.map_err(|_| late())?
    }

    /// Publishes so many messages with one write.
    pub async fn publish(&self, messages: u64, bytes: usize) {
        let inner = &*self.inner;
        let mut out = Vec::new();
        for _ in 0..messages {
            count(&inner.published, 1);
            count(&inner.in_flight, 1);
            let number = inner.published.get();
            let request = Request {
                op: "publish",
                reference: Some(PUBLISH),
                room: Some(&inner.room),
                data: Some(&data(inner.tally.now(), number, bytes)),
                ..Request::default()
            };
            inner.socket.frame(&request.encode(inner.socket.encoding()), &mut out);
        }
        if let Err(error) = inner.socket.write(&out).await {
            inner.tally.error(|| format!("publishing to {}: {error}", inner.room));
        }
    }

    /// Waits until fewer than so many publishes are not confirmed, and says how many more there may be.
    pub async fn window(&self, most: u64) -> u64 {
        loop {
            let confirmed = self.inner.confirmed.notified();
            match most.saturating_sub(self.inner.in_flight.get()) {
                0 => confirmed.await,
                more => return more,
            }
        }
    }

    /// Messages that it has published.
    pub fn published(&self) -> u64 {
        self.inner.published.get()
    }

    /// Whether its connection has ended.
    pub fn is_broken(&self) -> bool {
        self.inner.broken.get()
    }

    /// Whether it is one of those that stop reading.
    pub fn is_slow(&self) -> bool {
        self.inner.slow
    }

    /// Reads nothing from now on, or reads on.
    pub fn pause(&self, paused: bool) {
        self.inner.paused.set(paused);
        self.inner.resumed.notify_one();
    }
}

impl Inner {
    /// Receives until the connection ends, which it should not.
    async fn read(self: Rc<Self>, mut inbox: Inbox) {
        loop {
            while self.paused.get() {
                self.resumed.notified().await;
            }
            let read = async {
                self.socket.receive(&mut inbox, |frame| self.take(&frame)).await?;
                let acks = self.acks.take();
                self.socket.write(&acks).await
            };
            if let Err(error) = read.await {
                self.tally.error(|| format!("a connection to {} ended: {error}", self.room));
                self.broken.set(true);
                self.in_flight.set(0);
                return self.confirmed.notify_one();
            }
        }
    }

    fn take(&self, frame: &Frame<'_>) {
        if frame.reference == Some(PUBLISH) {
            self.in_flight.set(self.in_flight.get().saturating_sub(1));
            self.confirmed.notify_one();
        }
        match &*frame.op {
            "message" => self.message(frame),
            "ok" if frame.reference == Some(PUBLISH) => count(&self.tally.confirmed, 1),
            "live" => self.joined.set(true),
            "ok" | "pong" => {}
            op => {
                let said = frame.message.as_deref().or(frame.code.as_deref()).unwrap_or_default();
                self.tally.error(|| format!("{op} in {}: {said}", self.room));
            }
        }
    }

    fn message(&self, frame: &Frame<'_>) {
        let (Some((sent, number)), Some(id)) =
            (frame.data.as_deref().and_then(read_data), frame.id.as_deref())
        else {
            return self.tally.error(|| format!("a message in {} that nobody here published", self.room));
        };
        if frame.room.as_deref() != Some(&self.room) {
            return self.tally.error(|| format!("a message of another room in {}", self.room));
        }
        if self.record.track.borrow_mut().take(number) {
            let mut last_id = self.record.last_id.borrow_mut();
            last_id.clear();
            last_id.push_str(id);
            if self.durable {
                let ack = Request { op: "ack", room: Some(&self.room), id: Some(id), ..Request::default() };
                let payload = ack.encode(self.socket.encoding());
                self.socket.frame(&payload, &mut self.acks.borrow_mut());
            }
            count(&self.tally.received, 1);
            if !self.slow {
                self.tally.delivered(sent);
            }
        }
    }
}
