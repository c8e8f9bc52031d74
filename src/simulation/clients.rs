//! Clients of a simulation: each is a real session, with a socket that the record reads.

use std::io::{self, IoSlice};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::data::Id;
use super::executor;
use super::record::{Asked, Began};
use super::world::{ROOM, in_world};
use crate::auth::Claims;
use crate::connections::{ConnectionGuard, Registry};
use crate::hub::send_queue::{SendQueue, Sink};
use crate::node::Simulated;
use crate::protocol::decode::Incoming;
use crate::protocol::request::{DEFAULT_TYPE, Draft, Request, Start};
use crate::protocol::{Data, Encoding, MessageId, RoomName};
use crate::session::Session;

use crate::tasks;
use crate::telemetry::{Timed, Transport};

/// More requests than a client sends in a schedule.
const REQUESTS: usize = 256;

struct Socket {
    connection: usize,
    more: Arc<Notify>,
}

impl Sink for Socket {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        in_world(|world| {
            let record = &mut world.record;
            if !record.connections[self.connection].open {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match record.receive(self.connection, parts.iter().map(|part| &**part)) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                taken => Ok(taken),
            }
        })
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        async {
            loop {
                let (open, takes) = in_world(|world| {
                    let connection = &world.record.connections[self.connection];
                    (connection.open, connection.takes)
                });
                if !open {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if takes > 0 {
                    return Ok(());
                }
                self.more.notified().await;
            }
        }
        .boxed()
    }

    fn shut(&self) {}

    fn delivered(&self, _: Timed) {}
}

pub(super) struct Client {
    pub connection: usize,
    requests: mpsc::Sender<Incoming>,
    queue: Arc<SendQueue>,
}

impl Client {
    pub(super) fn connect(client: usize, place: usize, node: &Arc<Simulated>, claims: &Arc<Claims>) -> Self {
        let (connection, more) = in_world(|world| {
            let connection = world.record.connect(client, place);
            world.note(|| format!("client {client} connects to node {place}"));
            (connection, world.record.connections[connection].more.clone())
        });
        let limits = &node.shared.limits;
        let socket = Socket { connection, more };
        let queue = Arc::new(SendQueue::to(socket, limits.outbox, limits.publishes_in_flight + 1));
        let entered = Registry::enter(
            &node.shared.registry,
            Transport::WebSocket,
            Encoding::Json,
            queue.clone(),
            Some(claims.clone()),
        );
        let entered = entered.expect("a node is never full");
        let session = Session::new(node.shared.clone(), Arc::clone(&entered), claims.clone(), Encoding::Json);
        let (requests, asked) = mpsc::channel(REQUESTS);
        executor::as_owner(place + 1, || tasks::spawn(serve(session, entered, queue.clone(), asked)));
        Self { connection, requests, queue }
    }

    pub(super) fn disconnect(self) {
        in_world(|world| {
            world.note(|| format!("connection {} ends", self.connection));
            world.record.disconnect(self.connection);
        });
        self.queue.abandon();
    }

    fn send(&self, asked: Asked, request: Request) {
        let reference = in_world(|world| {
            world.note(|| format!("connection {} asks: {request:?}", self.connection));
            world.record.ask(self.connection, asked)
        });
        // The node may be dead.
        let _ = self.requests.try_send(Incoming { reference: Some(reference), request: Ok(request) });
    }

    pub(super) fn publish(&self, key: u128) {
        let data = Data::from_json(&key.to_string()).expect("a number");
        let message = Draft { key: Uuid::from_u128(key), new_key: false, kind: DEFAULT_TYPE.into(), data };
        let asked = in_world(|world| world.record.publish(key));
        self.send(asked, Request::Publish { room: room(), message });
    }

    pub(super) fn subscribe(&self, start: Option<Start>, durable: bool) {
        let named = match start {
            Some(Start::After(id)) => Some((id.ms, id.seq)),
            _ => None,
        };
        let name = durable.then(|| "phone".parse().expect("a name"));
        let asked = Asked::Subscribe(Began { durable, named });
        self.send(asked, Request::Subscribe { room: room(), start, durable: name });
    }

    pub(super) fn unsubscribe(&self) {
        self.send(Asked::Unsubscribe, Request::Unsubscribe { room: room(), forget: false });
    }

    pub(super) fn acknowledge(&self, id: Id) {
        let asked = in_world(|world| world.record.acknowledge(self.connection, id));
        self.send(asked, Request::Ack { room: room(), id: MessageId::new(id.0, id.1) });
    }

    /// Accepts this many more bytes, and then no more.
    pub(super) fn take(&self, bytes: usize) {
        in_world(|world| {
            world.note(|| format!("connection {} takes {bytes} bytes", self.connection));
            let connection = &mut world.record.connections[self.connection];
            connection.takes = bytes;
            connection.more.notify_one();
        });
    }
}

pub(super) fn room() -> RoomName {
    thread_local! {
        static NAME: RoomName = ROOM.parse().expect("a name");
    }
    NAME.with(Clone::clone)
}

async fn serve(
    mut session: Session,
    entered: ConnectionGuard,
    queue: Arc<SendQueue>,
    mut asked: mpsc::Receiver<Incoming>,
) {
    while let Some(incoming) = asked.recv().await {
        let Some(incoming) = session.try_handle(incoming) else { continue };
        let Some(permit) = queue.has_room().await else { break };
        session.handle(incoming, permit).await;
    }
    session.end().await;
    drop(entered);
}
