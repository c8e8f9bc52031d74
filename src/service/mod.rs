//! The capabilities of a node, whoever asks for them. WebSocket, Server-Sent Events and REST are edges over
//! these services, which know neither sockets nor HTTP. Each checks the caller's grants, so that no edge can
//! forget to.

pub mod access;
pub mod acks;
pub mod history;
pub mod leases;
pub mod limits;
pub mod publish;
pub mod push;
pub mod rooms;
pub mod subscriptions;

use std::sync::Arc;

use self::access::Access;
use self::acks::Acks;
use self::history::History;
use self::publish::Publisher;
use self::push::Pusher;
use self::rooms::Rooms;
use self::subscriptions::Subscriptions;

/// The services of a node, for its edges.
pub struct Services {
    pub access: Arc<Access>,
    pub publisher: Publisher,
    pub subscriptions: Arc<Subscriptions>,
    pub acks: Arc<Acks>,
    pub history: History,
    pub pusher: Pusher,
    pub rooms: Rooms,
}
