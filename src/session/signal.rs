//! Signals, sent by a connection, or by a client that comes over HTTP without one.

use uuid::Uuid;

use crate::auth::Claims;
use crate::log::Unavailable;
use crate::node::Node;
use crate::protocol::request::SignalDraft;
use crate::protocol::{Failure, RoomName};
use crate::redis::Signal;

/// Sends a signal to the subscribers of a room, except the sending session.
///
/// # Errors
/// `too_large`, `unavailable`.
pub async fn send(
    node: &Node,
    room: &RoomName,
    session: Uuid,
    claims: &Claims,
    signal: SignalDraft,
) -> Result<(), Failure> {
    let SignalDraft { kind, data, to } = signal;
    let limit = node.config.limits.max_signal.min(node.config.limits.max_message);
    data.fits(limit)?;
    let signal = Signal { session, from: claims.user.clone(), kind, data, to };
    node.store.signal(room, &signal).await.map_err(|Unavailable| Failure::unavailable())
}
