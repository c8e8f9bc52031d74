//! Publishing: the only way for clients into the log. A message passes the grant, the rate limit and the
//! size limit, in this order, before it is queued.

use std::sync::Arc;

use super::limits::Limits;
use crate::auth::{Claims, Permission};
use crate::hub::appender::{Appender, Confirm};
use crate::log::{Appended, Unavailable};
use crate::protocol::request::Draft;
use crate::protocol::{Failure, RoomName, UserId};
use crate::redis::Store;

pub struct Publisher {
    store: Arc<Store>,
    appender: Arc<Appender>,
    limits: Arc<Limits>,
    /// Maximum size of a message's data, in bytes of MessagePack.
    max_message: usize,
}

#[must_use]
pub struct Admitted<'a> {
    appender: &'a Arc<Appender>,
    room: RoomName,
    from: UserId,
    draft: Draft,
}

impl Publisher {
    pub fn new(store: Arc<Store>, appender: Arc<Appender>, limits: Arc<Limits>, max_message: usize) -> Self {
        Self { store, appender, limits, max_message }
    }

    /// Checks that the caller may publish a message now.
    ///
    /// # Errors
    /// `forbidden`, `rate_limited`, `too_large`, or `unavailable` if the room's Redis is nearly full.
    pub fn admit(&self, caller: &Claims, room: RoomName, draft: Draft) -> Result<Admitted<'_>, Failure> {
        caller.require(&room, Permission::Write)?;
        self.limits.publish(&caller.user)?;
        draft.data.fits(self.max_message)?;
        if self.store.is_full(&room) {
            return Err(Failure::full());
        }
        Ok(Admitted { appender: &self.appender, room, from: caller.user.clone(), draft })
    }
}

impl Admitted<'_> {
    /// Queues the message. `confirm` is called once, as [`Appender::submit`] says.
    pub fn submit(self, confirm: Confirm) {
        self.appender.submit(&self.room, self.from, self.draft, confirm);
    }

    /// Queues the message immediately. The returned future waits until it is stored.
    pub fn store(self) -> impl Future<Output = Result<Appended, Unavailable>> + use<> {
        self.appender.append(&self.room, self.from, self.draft)
    }
}
