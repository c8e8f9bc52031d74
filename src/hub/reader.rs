//! Catching up: reading the log for one subscription at its client's pace, until it meets the tail. That is the whole
//! treatment of backlogs, reconnect storms and slow consumers.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::Hub;
use super::outbox::Turn;
use super::room::{Join, Room};
use super::subscription::Subscription;
use crate::log::{Event, Page, Unavailable, follow};
use crate::protocol::MessageId;
use crate::telemetry::{CatchUpReason, Path, logs};

/// How long a reader waits before it asks Redis again after a failure.
const RETRY: Duration = Duration::from_millis(250);

impl Hub {
    /// Joins the tail at once where that is possible, and starts a reader otherwise.
    pub(super) fn read_on(
        self: &Arc<Self>,
        room: Arc<Room>,
        subscription: Arc<Subscription>,
        position: MessageId,
        reason: CatchUpReason,
    ) {
        // `live` is said once: when the backlog of the subscribe is done.
        let announce = reason == CatchUpReason::Subscribed;
        if announce && matches!(room.join(&subscription, position, announce), Join::Live) {
            return;
        }
        self.metrics.catch_up(reason);
        let hub = self.clone();
        tokio::spawn(async move {
            hub.metrics.catching_up.increment(1);
            hub.catch_up(&room, &subscription, position, announce).await;
            hub.metrics.catching_up.decrement(1);
        });
    }

    /// Ends when the subscription is live, or over.
    async fn catch_up(
        self: &Arc<Self>,
        room: &Arc<Room>,
        subscription: &Arc<Subscription>,
        mut position: MessageId,
        announce: bool,
    ) {
        loop {
            let Some(turn) = subscription.outbox.turn().await else { return };
            let page = match room.join(subscription, position, announce) {
                Join::Live | Join::Ended => return,
                Join::Behind(Some(page)) => {
                    position = self.tell(turn, room, subscription, &page, Path::Ring);
                    continue;
                }
                Join::Behind(None) | Join::Ahead => {
                    // Around the read alone: pages from the ring cost no span.
                    self.page(room, position).instrument(logs::session(subscription.session)).await
                }
            };
            match page {
                Ok(page) => {
                    let reached = self.tell(turn, room, subscription, &page, Path::Redis);
                    if reached == position && reached > room.position() {
                        self.let_tail_follow(room, reached).await;
                    }
                    position = reached;
                }
                Err(Unavailable) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Hands a page to a subscription, and returns the position after it.
    fn tell(
        &self,
        turn: Turn<'_>,
        room: &Room,
        subscription: &Subscription,
        page: &Page,
        path: Path,
    ) -> MessageId {
        let (events, reached) = follow(page);
        let parts = subscription.form.page(&room.name, &events);
        if room.hand(turn, subscription, parts) {
            let mut messages = events.len();
            for event in &events {
                if let Event::Gap(gap) = event {
                    self.metrics.gap(room.class, gap.reason);
                    messages -= 1;
                }
            }
            self.metrics.delivered(room.class, path, messages);
        }
        reached
    }

    /// A reader has reached the head before this node's tail has: the tail missed something, and is told so.
    async fn let_tail_follow(self: &Arc<Self>, room: &Arc<Room>, head: MessageId) {
        let work = room.step(|tail| tail.hear_of(head));
        self.work(room, work);
        let reached = room.beyond(head.predecessor());
        let _a_failed_read_is_tried_again = tokio::time::timeout(RETRY, reached).await;
    }
}
