//! History: pages of a room's log on request, at once or when there are messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::{Claims, Permission};
use crate::hub::Hub;
use crate::log::{Entry, Event, PageSize, Position, Unavailable, follow};
use crate::protocol::continuity::{follows, reason};
use crate::protocol::frame::{Gap, HistoryPage};
use crate::protocol::request::Range;
use crate::protocol::{Failure, MessageId, RoomName};
use crate::redis::Store;

/// Size of messages, in bytes, after which a page ends early and reports that there are more.
const PAGE_BYTES: usize = 1024 * 1024;

pub struct History {
    store: Arc<Store>,
    hub: Arc<Hub>,
}

impl History {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>) -> Self {
        Self { store, hub }
    }

    /// Reads a page: messages oldest first, a flag for more in the requested direction, the head, and the
    /// first gap.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn page(
        &self,
        caller: &Claims,
        room: &RoomName,
        range: Range,
        limit: usize,
    ) -> Result<HistoryPage, Failure> {
        caller.require(room, Permission::Read)?;
        Ok(page(&self.store, room, range, limit).await?)
    }

    /// Waits until a page has messages or a gap. Returns an empty page when the time is over, or when `ended`
    /// completes without a failure.
    ///
    /// # Errors
    /// As [`History::page`], and the failure of `ended`.
    pub async fn wait(
        &self,
        caller: &Claims,
        room: &RoomName,
        (range, limit): (Range, usize),
        wait: Duration,
        ended: impl Future<Output = Result<(), Failure>>,
    ) -> Result<HistoryPage, Failure> {
        caller.require(room, Permission::Read)?;
        let deadline = Instant::now() + wait;
        let mut ended = std::pin::pin!(ended);
        loop {
            // Repeated each time, since the room may have been deleted and created again.
            let active = self.hub.activate(room).await?;
            let page = page(&self.store, room, range, limit).await?;
            if !page.messages.is_empty() || page.gap.is_some() {
                return Ok(page);
            }
            tokio::select! {
                () = active.moved_from(page.head) => {}
                () = tokio::time::sleep_until(deadline) => return Ok(page),
                ended = &mut ended => return ended.map(|()| page),
            }
        }
    }
}

async fn page(
    store: &Store,
    room: &RoomName,
    range: Range,
    limit: usize,
) -> Result<HistoryPage, Unavailable> {
    match range {
        Range::After(id) => forward(store, room, From::Position(id.into()), limit).await,
        Range::Oldest => forward(store, room, From::Time(0), limit).await,
        Range::FromTime(ms) => forward(store, room, From::Time(ms), limit).await,
        Range::Before(id) => backward(store, room, Some(id), limit).await,
        Range::Newest => backward(store, room, None, limit).await,
    }
}

enum From {
    /// After a position. Messages missing right after it are a loss.
    Position(Position),
    /// At the first message of this time, in Unix ms, or later.
    Time(u64),
}

async fn forward(
    store: &Store,
    room: &RoomName,
    mut from: From,
    limit: usize,
) -> Result<HistoryPage, Unavailable> {
    let mut taken = Taken::new(limit);
    let mut gap = None;
    loop {
        let page = match from {
            From::Position(after) => store.read_after(room, after, taken.next_read()).await?,
            From::Time(ms) => store.read_since(room, ms, taken.next_read()).await?,
        };
        let head = page.head;
        taken.size.learn(&page.entries);
        let (complete, (events, reached)) = (page.complete, follow(&page));
        let mut more = false;
        for event in events {
            match event {
                Event::Message(entry) => more |= !taken.add(entry),
                Event::Gap(lost) if !more => gap = gap.or(Some(lost)),
                Event::Gap(_) => {}
            }
        }
        if complete || more {
            return Ok(taken.page(more, head.id, gap));
        }
        from = From::Position(Position { id: reached, epoch: head.epoch });
    }
}

async fn backward(
    store: &Store,
    room: &RoomName,
    before: Option<MessageId>,
    limit: usize,
) -> Result<HistoryPage, Unavailable> {
    let mut taken = Taken::new(limit);
    let mut cursor = before;
    let (head, more) = loop {
        let wanted = taken.next_read();
        let (head, entries) = store.read_before(room, cursor, wanted).await?;
        taken.size.learn(&entries);
        let complete = entries.len() < wanted;
        cursor = entries.first().map(|entry| entry.id()).or(cursor);
        let more = entries.into_iter().rev().any(|entry| !taken.add(entry));
        if complete || more {
            break (head, more);
        }
    };
    taken.entries.reverse();
    let gap = first_gap(&taken.entries, before, head.id);
    Ok(taken.page(more, head.id, gap))
}

/// Returns the first hole between entries that were read backwards, or between them and the start of reading.
fn first_gap(entries: &[Arc<Entry>], before: Option<MessageId>, head: MessageId) -> Option<Gap> {
    let ids: Vec<MessageId> = entries.iter().map(|entry| entry.id()).collect();
    let within = ids.windows(2).find(|pair| !follows(pair[0], pair[1])).map(|pair| (pair[0], pair[1]));
    let next = before.filter(|before| *before <= head).unwrap_or(head.successor());
    let (after, next) = within.or_else(|| {
        let last = *ids.last()?;
        // A `before` that is a point in time, not a message, has no `seq`.
        (next.seq > last.seq + 1).then_some((last, next))
    })?;
    Some(Gap { after, next, reason: reason(after, next) })
}

struct Taken {
    entries: Vec<Arc<Entry>>,
    bytes: usize,
    limit: usize,
    size: PageSize,
}

impl Taken {
    fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), bytes: 0, limit, size: PageSize::default() }
    }

    /// One more than is still wanted, to learn if there are more.
    fn next_read(&self) -> usize {
        (self.limit - self.entries.len() + 1).min(self.size.get())
    }

    fn add(&mut self, entry: Arc<Entry>) -> bool {
        let fits = self.entries.len() < self.limit && (self.bytes < PAGE_BYTES || self.entries.is_empty());
        if fits {
            self.bytes += entry.size();
            self.entries.push(entry);
        }
        fits
    }

    fn page(self, more: bool, head: MessageId, gap: Option<Gap>) -> HistoryPage {
        let message = |entry: Arc<Entry>| {
            Arc::try_unwrap(entry).map_or_else(|shared| shared.message.clone(), |own| own.message)
        };
        let messages = self.entries.into_iter().map(message).collect();
        HistoryPage { messages, more, head, gap }
    }
}
