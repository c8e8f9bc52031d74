//! Messages to the present subscribers of a room, which are not stored: signals.

use std::sync::Arc;

use uuid::Uuid;

use super::limits::Limits;
use crate::auth::{Claims, Permission};
use crate::log::Push;
use crate::protocol::frame::Frame;
use crate::protocol::request::SignalDraft;
use crate::protocol::{Failure, RoomName};
use crate::redis::Store;

pub struct Pusher {
    store: Arc<Store>,
    limits: Arc<Limits>,
    /// Maximum size of a signal's data, in bytes of MessagePack.
    max_signal: usize,
}

impl Pusher {
    pub fn new(store: Arc<Store>, limits: Arc<Limits>, max_signal: usize) -> Self {
        Self { store, limits, max_signal }
    }

    /// Sends a signal to the subscribers of a room, except the sending session.
    ///
    /// # Errors
    /// `forbidden`, `rate_limited`, `too_large`, `unavailable`.
    pub async fn signal(
        &self,
        caller: &Claims,
        room: &RoomName,
        session: Uuid,
        signal: SignalDraft,
    ) -> Result<(), Failure> {
        caller.require(room, Permission::Write)?;
        self.limits.publish(&caller.user)?;
        let SignalDraft { kind, data, to } = signal;
        data.fits(self.max_signal)?;
        let frame = Frame::Signal { room: room.clone(), from: caller.user.clone(), kind, data, sys: false };
        Ok(self.store.push(room, &Push { frame, to, except: Some(session) }).await?)
    }
}
