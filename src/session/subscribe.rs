//! Subscribing and unsubscribing, durable or not.

use std::sync::Arc;

use super::{Refusal, Session, durable};
use crate::auth::Claims;
use crate::hub::{Form, Holding, Subscription};
use crate::log::Unavailable;
use crate::protocol::frame::{Answer, Frame};
use crate::protocol::request::Start;
use crate::protocol::{ErrorCode, Failure, RoomName, SubscriptionName};
use crate::redis::{Attached, Group};

impl Session {
    /// Subscribes, answers, and then delivers. This connection's former subscription to the room is replaced
    /// once the new one exists. If that fails, the former one continues.
    pub(super) async fn subscribe(
        &mut self,
        claims: &Claims,
        reference: Option<u64>,
        room: RoomName,
        start: Option<Start>,
        durable: Option<SubscriptionName>,
    ) -> Result<(), Refusal> {
        let former = self.former(&room).await;
        self.forget_ended();
        if former.is_none() && self.subscriptions.len() >= self.node.config.limits.subscriptions {
            let limit = self.node.config.limits.subscriptions;
            let message = format!("a connection has at most {limit} subscriptions");
            return Err(Failure::new(ErrorCode::TooMany, message).into());
        }
        let hub = self.node.hub.clone();
        // The room is active before the position is read, so that no message in between is missed.
        let hold = hub.hold(&room).await?;
        let holding = durable.map(|name| Holding {
            group: Group::new(&claims.user, &name),
            // Numbered, so that a late notification about this connection's former holders does not affect
            // this one.
            holder: format!("{}/{}/{}", self.node.id, self.connection.id, self.holdings),
        });
        self.holdings += 1;
        let subscription = Arc::new(Subscription::new(
            room.clone(),
            self.connection.id,
            claims.user.clone(),
            Form::Frames(self.encoding),
            self.connection.outbox.clone(),
            holding,
        ));
        // The same durable subscription, which this connection takes over from itself.
        let retaken = former.as_ref().filter(|former| former.is_same_durable(&subscription));
        if let Some((retaken, holding)) = retaken.and_then(|former| Some((former, former.durable.as_ref()?)))
        {
            self.node.acks.flush(retaken, holding).await?;
        }
        // Added before the subscription is taken, so that an immediate takeover is noticed.
        hub.enter(&hold, &subscription)?;
        if let Some(retaken) = retaken {
            hub.hush(&hold, retaken);
        }
        let attached = match &subscription.durable {
            None => {
                let position = hub.position(&hold, start).await;
                position
                    .map(|position| Attached { position, head: hold.position(), created: false })
                    .map_err(|Unavailable| Failure::unavailable())
            }
            Some(holding) => durable::take(&self.node, &hold, &claims.user, holding, start).await,
        };
        let Attached { position, head, created } = match attached {
            Ok(attached) => attached,
            Err(failure) => {
                hub.unsubscribe(&subscription);
                if let Some(retaken) = retaken {
                    hub.tell_again(&hold, retaken);
                }
                return Err(failure.into());
            }
        };
        if let Some(former) = former {
            let _it_has_ended_and_is_tried_again = self.release(&former).await;
        }
        if let Some(holding) = &subscription.durable {
            self.node.held.insert(&room, holding);
        }
        self.subscriptions.insert(room.clone(), subscription.clone());
        if reference.is_some() {
            let answer = Answer::Subscribed { room, position, head: head.max(hold.position()), created };
            self.send(&Frame::Ok { reference, answer });
        }
        hub.begin(&hold, &subscription, position);
        Ok(())
    }

    /// Returns this connection's live subscription to a room. Releases one that the server has ended.
    async fn former(&mut self, room: &RoomName) -> Option<Arc<Subscription>> {
        let former = self.subscriptions.get(room)?.clone();
        if !former.has_ended() {
            return Some(former);
        }
        self.subscriptions.remove(room);
        let _it_has_ended_and_is_tried_again = self.release(&former).await;
        None
    }

    pub(super) async fn unsubscribe(&mut self, room: &RoomName, forget: bool) -> Result<(), Refusal> {
        self.subscribed(room)?;
        let Some(subscription) = self.subscriptions.remove(room) else { return Ok(()) };
        let released = self.release(&subscription).await;
        if let Some(holding) = subscription.durable.as_ref().filter(|_| forget) {
            self.node.store.forget(room, &holding.group).await?;
            return Ok(());
        }
        released.map_err(|Unavailable| {
            let message = "the subscription has ended, but Redis did not confirm its last acknowledgement";
            Failure { message: message.into(), ..Failure::unavailable() }.into()
        })
    }

    /// Ends a subscription on this node. The position of a durable one is written and stays, free for the
    /// next holder.
    ///
    /// # Errors
    /// If the last acknowledgement could not be written.
    pub(super) async fn release(&self, subscription: &Subscription) -> Result<(), Unavailable> {
        self.node.hub.unsubscribe(subscription);
        let Some(holding) = &subscription.durable else { return Ok(()) };
        self.node.held.remove(&subscription.room, holding);
        let left = self.node.acks.leave(&subscription.room, holding).await;
        if left == Err(Unavailable) {
            tracing::debug!(room = %subscription.room, "the last acknowledgement could not be written; trying again");
        }
        left
    }

    /// Removes subscriptions that the server has ended.
    fn forget_ended(&mut self) {
        let limit = self.node.config.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            self.subscriptions.retain(|_, subscription| !subscription.has_ended());
        }
    }
}
