//! The capabilities of a node, whoever asks for them. WebSocket, Server-Sent Events and REST are edges over
//! these services, which know neither sockets nor HTTP. Each checks the caller's grants, so that no edge can
//! forget to.

pub(crate) mod access;
pub(crate) mod acks;
pub(crate) mod heads;
pub(crate) mod history;
pub(crate) mod leases;
pub(crate) mod limits;
pub(crate) mod publish;
pub(crate) mod push;
pub(crate) mod reads;
pub(crate) mod rooms;
pub(crate) mod subscriptions;

use std::sync::Arc;

use self::access::Access;
use self::acks::Acks;
use self::heads::Heads;
use self::history::History;
use self::publish::Publisher;
use self::push::Pusher;
use self::reads::Reads;
use self::rooms::Rooms;
use self::subscriptions::Subscriptions;

pub struct Services {
    pub access: Arc<Access>,
    pub publisher: Publisher,
    pub subscriptions: Arc<Subscriptions>,
    pub acks: Arc<Acks>,
    pub heads: Arc<Heads>,
    pub reads: Arc<Reads>,
    pub history: History,
    pub pusher: Pusher,
    pub rooms: Rooms,
}
