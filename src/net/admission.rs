//! Admission of connections: a bound on all connections of a node, and a smaller share for strangers, which
//! have not authenticated yet. A client without a token cannot exhaust the node's files or memory.
//!
//! When a share is full, the next connection waits in the OS's accept queue, as all do when the clients of a
//! node reconnect at once. A stranger that has exceeded its time is then cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::telemetry::{Metrics, Queue};

/// Files reserved for other uses: Redis, the listeners, scrapes of metrics.
const RESERVE: usize = 64;

/// Time for which a stranger keeps its place while others wait. It allows some round trips to authenticate.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// Clients that stay: WebSockets, event streams, long polls.
    pub clients: usize,
    pub strangers: usize,
    pub all: usize,
}

impl Places {
    /// Returns the limits for `clients` clients plus a share for strangers, within the number of files that
    /// the process may open.
    pub(crate) fn new(clients: usize, files: usize) -> Self {
        let files = files.saturating_sub(RESERVE).max(2);
        let strangers = (clients / 8).clamp(32, 4096).min(files / 4).max(1);
        let clients = clients.min(files - strangers);
        Self { clients, strangers, all: clients + strangers }
    }

    /// The limits of a listener that only operators reach: within the reserve.
    pub(crate) const FEW: Self = Self { clients: 0, strangers: 16, all: 16 };
}

pub(crate) struct Admission {
    places: Places,
    taken: Mutex<Taken>,
    freed: Notify,
    sockets: Gauge,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// In order of arrival.
    strangers: BTreeMap<u64, Weak<Place>>,
    next: u64,
}

impl Admission {
    pub(crate) fn new(places: Places, sockets: Gauge, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { places, taken: Mutex::default(), freed: Notify::new(), sockets, metrics })
    }

    /// Waits until another connection may be accepted. Meanwhile, strangers that have exceeded their time are
    /// cut.
    pub(crate) async fn room(&self) {
        let Err(mut wait) = self.make_room(Instant::now()) else { return };
        self.metrics.full(Queue::Connections);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let _ = tokio::time::timeout(wait, freed).await;
            match self.make_room(Instant::now()) {
                Ok(()) => return,
                Err(longer) => wait = longer,
            }
        }
    }

    /// Returns `Ok` if there is room. Otherwise cuts a stranger that has exceeded its time, or returns the
    /// time after which to check again.
    fn make_room(&self, now: Instant) -> Result<(), Duration> {
        // Dropped after the lock is released, since this may be the last reference.
        let oldest = {
            let taken = self.taken.lock();
            if taken.all < self.places.all && taken.strangers.len() < self.places.strangers {
                return Ok(());
            }
            taken.strangers.values().next().and_then(Weak::upgrade)
        };
        let Some(oldest) = oldest else { return Err(PATIENCE) };
        let age = now.saturating_duration_since(oldest.came);
        if age >= PATIENCE {
            oldest.cut();
        }
        // A stranger that was cut is gone in a moment.
        Err(PATIENCE.saturating_sub(age).max(Duration::from_millis(1)))
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Arc<Place> {
        let mut taken = self.taken.lock();
        let place = Arc::new(Place {
            admission: self.clone(),
            number: taken.next,
            came: Instant::now(),
            is_known: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            cut: Notify::new(),
        });
        taken.next += 1;
        taken.all += 1;
        taken.strangers.insert(place.number, Arc::downgrade(&place));
        self.sockets.set(taken.all as f64);
        place
    }

    fn free(&self, number: u64, leaves: bool) {
        let mut taken = self.taken.lock();
        taken.strangers.remove(&number);
        if leaves {
            taken.all -= 1;
            self.sockets.set(taken.all as f64);
        }
        drop(taken);
        self.freed.notify_one();
    }
}

/// The place of one connection, held while its socket is open.
pub(crate) struct Place {
    admission: Arc<Admission>,
    number: u64,
    came: Instant,
    is_known: AtomicBool,
    is_cut: AtomicBool,
    cut: Notify,
}

impl Place {
    /// Records that its client has authenticated, and is no longer a stranger.
    pub(crate) fn known(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.admission.free(self.number, false);
        }
    }

    /// Ends the connection immediately, whatever it is doing.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.notify_one();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Waits until it is cut. Supports one waiter at a time.
    pub(crate) async fn was_cut(&self) {
        while !self.is_cut() {
            self.cut.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.free(self.number, true);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn admission(strangers: usize, all: usize) -> Arc<Admission> {
        let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
        let metrics = Arc::new(Metrics::new(&config.rooms));
        Admission::new(Places { clients: all - strangers, strangers, all }, Gauge::noop(), metrics)
    }

    #[test]
    fn places_fit_the_limit_of_open_files() {
        assert_eq!(Places::new(100_000, 1 << 20), Places { clients: 100_000, strangers: 4096, all: 104_096 });
        assert_eq!(Places::new(10, 1 << 20), Places { clients: 10, strangers: 32, all: 42 });
        assert_eq!(Places::new(100_000, 1024), Places { clients: 720, strangers: 240, all: 960 });
        for files in 0..200 {
            let Places { clients, strangers, all } = Places::new(1000, files);
            assert!(clients > 0 && strangers > 0 && all <= files.saturating_sub(RESERVE).max(2), "{files}");
        }
    }

    fn after(admission: &Admission, time: Duration) -> Result<(), Duration> {
        admission.make_room(Instant::now() + time)
    }

    #[test]
    fn strangers_have_a_share_until_they_authenticate() {
        let admission = admission(2, 4);
        let (first, _second) = (admission.enter(), admission.enter());
        assert!(after(&admission, Duration::ZERO).is_err());
        first.known();
        first.known();
        assert_eq!(after(&admission, Duration::ZERO), Ok(()));
        let third = admission.enter();
        assert!(after(&admission, Duration::ZERO).is_err());
        drop(third);
        assert_eq!(after(&admission, Duration::ZERO), Ok(()));
    }

    #[tokio::test]
    async fn only_strangers_over_their_time_are_cut_for_new_connections() {
        let admission = admission(2, 3);
        let known = admission.enter();
        known.known();
        let (first, second) = (admission.enter(), admission.enter());
        let wait = after(&admission, PATIENCE / 2).unwrap_err();
        assert!(wait <= PATIENCE / 2 && !first.is_cut(), "{wait:?}");
        assert!(after(&admission, PATIENCE).is_err(), "there is no room before it is gone");
        first.was_cut().await;
        assert!(!second.is_cut() && !known.is_cut());
        let room = admission.room();
        drop(first);
        room.await;
    }

    #[test]
    fn known_clients_fill_all_places_and_are_not_cut() {
        let admission = admission(1, 2);
        let known = [admission.enter(), admission.enter()];
        known.iter().for_each(|place| place.known());
        assert_eq!(after(&admission, PATIENCE * 3), Err(PATIENCE));
        assert!(!known.iter().any(|place| place.is_cut()));
    }
}
