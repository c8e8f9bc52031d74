//! Subscriptions: opening, replacing and ending them, and durable ones as objects of their own.
//!
//! Opening has an order: the room is active before its position is read, and the subscription is a member of
//! the room before its lease is taken, so that nothing in between is missed. [`Subscriptions::open`] does all
//! of it and returns a [`Pending`], in which the client can be answered. [`Pending::start`] starts delivery.
//! Dropping either undoes what was done.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::acks::{Acks, lease_lost};
use super::leases::{self, Leases};
use super::limits::Limits;
use super::rooms::KNOW;
use crate::auth::{Claims, Permission};
use crate::hub::send_queue::SendQueue;
use crate::hub::{Hub, Receives, Room, RoomGuard, Subscription};
use crate::log::{AttachAt, Attached, DurableId, Lease, NotAttached, Unavailable};
use crate::protocol::frame::Ended;
use crate::protocol::request::Start;
use crate::protocol::{ErrorCode, Failure, MessageId, RoomName, SubscriptionName};
use crate::redis::{DurableRecord, Store};
use crate::tasks;

pub struct Subscriptions {
    store: Arc<Store>,
    hub: Arc<Hub>,
    acks: Arc<Acks>,
    limits: Arc<Limits>,
    leases: Leases,
    most: usize,
}

pub struct Spec {
    pub room: RoomName,
    /// `None` for new messages only, or for the stored position of a durable subscription.
    pub start: Option<Start>,
    pub durable: Option<Durable>,
    pub session: Uuid,
    pub queue: Arc<SendQueue>,
    pub receives: Receives,
}

pub enum Durable {
    /// The lease is taken, and ends with the subscription.
    Take(Lease),
    /// The client has taken the lease over HTTP, and keeps it.
    Resume(Lease),
}

/// A subscription that is open but does not deliver yet.
#[must_use = "dropping it ends the subscription"]
pub struct Pending {
    pub position: MessageId,
    pub head: MessageId,
    pub created: bool,
    open: Open,
    muted: Option<Muted>,
    room: RoomGuard,
}

/// A subscription that delivers. Dropping it ends it, and its lease if it ends with it.
pub struct Open {
    service: Arc<Subscriptions>,
    subscription: Arc<Subscription>,
    /// `None` once it has left its room.
    held: Option<Held>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    /// It is no longer marked as in use by this node.
    Marked,
    /// It is given up.
    Taken,
}

/// A subscription that is about to be replaced. Dropping this without `replaced` set reverts that.
struct Muted {
    room: Arc<Room>,
    subscription: Arc<Subscription>,
    replaced: bool,
}

impl Drop for Muted {
    fn drop(&mut self) {
        if !self.replaced {
            self.room.unmute(&self.subscription);
        }
    }
}

impl Pending {
    pub fn start(self) -> Open {
        let Self { position, open, muted, room, .. } = self;
        if let Some(mut muted) = muted {
            muted.replaced = true;
        }
        open.service.hub.begin(&room, &open.subscription, position);
        open
    }
}

impl Open {
    fn hold(&mut self, lease: &Lease, held: Held) {
        self.service.leases.insert(&self.subscription.room, lease);
        self.held = Some(held);
    }

    pub fn has_ended(&self) -> bool {
        self.subscription.has_ended()
    }

    pub fn durable(&self) -> Option<&Arc<Subscription>> {
        self.subscription.lease.is_some().then_some(&self.subscription)
    }

    pub fn end(&self, code: Ended) {
        self.service.hub.end(&self.subscription, code);
    }

    /// Ends it at its client's request. The position of a durable one is written and stays, free for the next
    /// holder.
    ///
    /// # Errors
    /// If the last acknowledgement could not be written. It is then retried.
    pub async fn release(mut self) -> Result<(), Unavailable> {
        if self.leave() { self.service.give_up(&self.subscription).await } else { Ok(()) }
    }

    /// Ends delivery, the first time. Returns true if the lease must be given up then.
    fn leave(&mut self) -> bool {
        let Some(held) = self.held.take() else { return false };
        self.service.hub.leave(&self.subscription);
        if held != Held::No
            && let Some(lease) = &self.subscription.lease
        {
            self.service.leases.remove(&self.subscription.room, lease);
        }
        held == Held::Taken
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.leave() {
            let (service, subscription) = (self.service.clone(), self.subscription.clone());
            tasks::spawn(async move {
                let _ = service.give_up(&subscription).await; // There is no client to notify.
            });
        }
    }
}

impl Subscriptions {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, acks: Arc<Acks>, limits: Arc<Limits>, most: usize) -> Self {
        Self { store, hub, acks, limits, leases: Leases::default(), most }
    }

    /// Opens a subscription. `former`, if it is the same durable subscription, ends silently once the new one
    /// starts, and continues if this fails.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`, `bad_request` for a start that no message can have; for a durable one also
    /// `rate_limited` and `too_many` if it is new, and `not_subscribed` if a lease to resume was lost.
    pub async fn open(
        self: &Arc<Self>,
        caller: &Claims,
        spec: Spec,
        former: Option<&Open>,
    ) -> Result<Pending, Failure> {
        let Spec { room, start, durable, session, queue, receives } = spec;
        caller.require(&room, Permission::Read)?;
        let room = self.hub.activate(&room).await?;
        let (lease, takes) = match durable {
            None => (None, false),
            Some(Durable::Take(lease)) => (Some(lease), true),
            Some(Durable::Resume(lease)) => (Some(lease), false),
        };
        let user = caller.user.clone();
        let subscription = Subscription::new(room.name.clone(), session, user, queue, receives, lease);
        let subscription = Arc::new(subscription);
        let retaken = former.filter(|former| former.subscription.is_same_durable(&subscription));
        if let Some(retaken) = retaken {
            self.acks.flush(&retaken.subscription).await?;
        }
        room.enter(&subscription)?;
        let mut open =
            Open { service: self.clone(), subscription: subscription.clone(), held: Some(Held::No) };
        let muted = retaken.map(|former| {
            room.mute(&former.subscription);
            Muted { room: room.clone(), subscription: former.subscription.clone(), replaced: false }
        });
        let attached = match &subscription.lease {
            Some(lease) if takes => {
                let attached = self.attach(caller, &room, lease, start).await?;
                open.hold(lease, Held::Taken);
                attached
            }
            lease => {
                let position = self.hub.position(&room, start).await?;
                if let Some(lease) = lease {
                    let renewed = self.store.renew(&[(room.name.clone(), lease.clone())]).await.pop();
                    if !renewed.unwrap_or(Err(Unavailable))? {
                        return Err(lease_lost());
                    }
                    open.hold(lease, Held::Marked);
                }
                Attached { position, head: room.position(), created: false }
            }
        };
        let Attached { position, head, created } = attached;
        let head = head.max(room.position());
        Ok(Pending { position, head, created, open, muted, room })
    }

    /// Takes a durable subscription for a client without a connection, creating it if it is new. Notifies its
    /// previous holder. Returns the lease as well.
    ///
    /// # Errors
    /// As [`Subscriptions::open`].
    pub async fn take(
        &self,
        caller: &Claims,
        room: &RoomName,
        name: &SubscriptionName,
        start: Option<Start>,
    ) -> Result<(Lease, Attached), Failure> {
        caller.require(room, Permission::Read)?;
        let room = self.hub.activate(room).await?;
        let lease = leases::of_client(&caller.user, name);
        let attached = self.attach(caller, &room, &lease, start).await?;
        Ok((lease, Attached { head: attached.head.max(room.position()), ..attached }))
    }

    async fn attach(
        &self,
        caller: &Claims,
        room: &Room,
        lease: &Lease,
        start: Option<Start>,
    ) -> Result<Attached, Failure> {
        let at = match start {
            None => AttachAt::Stored,
            Some(Start::After(id)) => AttachAt::Id(id),
            Some(Start::New) => AttachAt::New,
            Some(Start::Oldest) => AttachAt::Oldest,
            // `last` applies to the first use only. Later ones continue from the stored position.
            Some(Start::Last(_)) => AttachAt::StoredOr(self.hub.position(room, start).await?),
        };
        let spent = self.limits.create(&caller.user);
        let attached = self.store.attach(&room.name, lease, at, spent.is_ok(), self.most).await;
        if spent.is_ok() && !attached.is_ok_and(|attached| attached.created) {
            self.limits.not_created(&caller.user);
        }
        attached.map_err(|refused| match (refused, spent) {
            (NotAttached::TooFast, Err(too_fast)) => too_fast,
            (NotAttached::Unavailable | NotAttached::TooFast, _) => Failure::unavailable(),
            (NotAttached::Full, _) => Failure::full(),
            (NotAttached::TooMany, _) => {
                let message = format!("a user has at most {} durable subscriptions of a room", self.most);
                Failure::new(ErrorCode::TooMany, message)
            }
            (NotAttached::NoSuchPosition, _) => Failure::bad_request("no message can have the id in `since`"),
        })
    }

    /// Deletes a durable subscription and its position, and notifies its holder.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn delete(&self, caller: &Claims, room: &RoomName, durable: &DurableId) -> Result<(), Failure> {
        caller.require(room, Permission::Manage)?;
        if !self.store.forget(room, durable).await? {
            return Err(Failure::new(ErrorCode::NotFound, "there is no such subscription of this room"));
        }
        Ok(())
    }

    /// Deletes the caller's own durable subscription, which it has released.
    pub async fn forget(&self, room: &RoomName, lease: &Lease) -> Result<(), Failure> {
        self.store.forget(room, &lease.durable).await?;
        Ok(())
    }

    /// Returns about `limit` of a room's durable subscriptions from a cursor on, each with its lag and with
    /// true if a connection holds it, and the cursor to continue from; `None` at the end.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn list(
        &self,
        caller: &Claims,
        room: &RoomName,
        cursor: u64,
        limit: usize,
    ) -> Result<(Vec<Listed>, Option<u64>), Failure> {
        caller.require_any(room, &KNOW)?;
        let facts = self.store.facts(room).await?;
        let (records, next) = self.store.subscriptions(room, cursor, limit).await?;
        let mut alive: HashMap<String, bool> = HashMap::new();
        for node in records.iter().filter_map(DurableRecord::node) {
            if !alive.contains_key(node) {
                alive.insert(node.to_owned(), self.store.is_alive(node).await?);
            }
        }
        let listed = records.into_iter().map(|record| Listed {
            lag: facts.after(record.position),
            connected: record.node().is_some_and(|node| alive.get(node) == Some(&true)),
            record,
        });
        Ok((listed.collect(), next))
    }

    pub async fn renew_leases(&self) {
        self.leases.renew(&self.store).await;
    }

    async fn give_up(&self, subscription: &Subscription) -> Result<(), Unavailable> {
        let Subscription { room, lease: Some(lease), .. } = subscription else { return Ok(()) };
        let left = self.acks.leave(room, lease).await;
        if left == Err(Unavailable) {
            tracing::debug!(%room, "the last acknowledgement could not be written; trying again");
        }
        left
    }
}

#[derive(Debug)]
pub struct Listed {
    pub record: DurableRecord,
    pub lag: u64,
    /// True if a connection holds it now.
    pub connected: bool,
}
