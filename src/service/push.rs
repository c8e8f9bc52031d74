//! Messages to the present subscribers of a room, which are not stored: signals.

use std::sync::Arc;

use uuid::Uuid;

use super::limits::Limits;
use crate::auth::{Claims, Permission};
use crate::protocol::request::SignalDraft;
use crate::protocol::{Failure, RoomName};
use crate::redis::{Signal, Store};

pub struct Push {
    store: Arc<Store>,
    limits: Arc<Limits>,
    /// Maximum size of a signal's data, in bytes of MessagePack.
    max_signal: usize,
}

impl Push {
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
        let signal = Signal { session, from: caller.user.clone(), kind, data, to };
        Ok(self.store.signal(room, &signal).await?)
    }
}
