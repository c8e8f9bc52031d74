//! Catching up: reads the log for one subscription, at its client's pace, until it meets the tail. Backlogs,
//! reconnect storms and slow consumers are all handled this way.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::room::{Join, Room};
use super::send_queue::Turn;
use super::subscription::Subscription;
use super::{Hub, frames};
use crate::log::{Event, Page, Position, Unavailable, follow};
use crate::tasks;
use crate::telemetry::{CatchUpReason, Path, logs};

const RETRY: Duration = Duration::from_millis(250);

impl Hub {
    pub(super) fn read_on(
        self: &Arc<Self>,
        room: Arc<Room>,
        subscription: Arc<Subscription>,
        position: Position,
        reason: CatchUpReason,
    ) {
        // `live` is sent once, when the backlog of the subscribe is delivered.
        let announce = reason == CatchUpReason::Subscribed;
        if announce && matches!(room.join(&subscription, position, announce), Join::Live) {
            return;
        }
        self.metrics.catch_up(reason);
        let hub = self.clone();
        tasks::spawn(async move {
            hub.metrics.catching_up.increment(1);
            hub.catch_up(&room, &subscription, position, announce).await;
            hub.metrics.catching_up.decrement(1);
        });
    }

    async fn catch_up(
        self: &Arc<Self>,
        room: &Arc<Room>,
        subscription: &Arc<Subscription>,
        mut position: Position,
        announce: bool,
    ) {
        loop {
            let Some(turn) = subscription.queue.turn().await else { return };
            let page = match room.join(subscription, position, announce) {
                Join::Live | Join::Ended => return,
                Join::Elsewhere(Some(page)) => {
                    position = self.deliver(turn, room, subscription, &page, Path::Recent);
                    continue;
                }
                Join::Elsewhere(None) => {
                    // Only the read has a span: pages from the ring need none.
                    self.page(room, position).instrument(logs::session(subscription.session)).await
                }
            };
            match page {
                Ok(page) => {
                    let reached = self.deliver(turn, room, subscription, &page, Path::Redis);
                    if page.fork.is_some() || reached.id == position.id {
                        self.let_tail_follow(room, &page).await;
                    }
                    position = reached;
                }
                Err(Unavailable) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn deliver(
        &self,
        turn: Turn<'_>,
        room: &Room,
        subscription: &Subscription,
        page: &Page,
        path: Path,
    ) -> Position {
        let (events, reached) = follow(page);
        let parts = frames::page(subscription.receives.format, &room.name, &events);
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
        Position { id: reached, epoch: page.head.epoch }
    }

    /// Lets the tail compare a page's head, after a reader has reached the log's end or a fork. A tail that
    /// has not seen this head has missed something, and reads too.
    async fn let_tail_follow(self: &Arc<Self>, room: &Arc<Room>, page: &Page) {
        let at = room.position();
        let work = room.step(|tail| tail.compare(page.head, page.fork.is_some()));
        let reads = work.read.is_some();
        self.work(room, work);
        if reads {
            // If that read fails, the reader asks again.
            let _ = tokio::time::timeout(RETRY, room.moved_from(at)).await;
        }
    }
}
