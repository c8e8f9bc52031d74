//! What all members of a run count together, on one thread.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones, in µs: ten minutes.
const LONGEST: u64 = 600_000_000;

/// How long one waits for messages while none come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Counts and latencies of one run.
#[derive(Debug)]
pub(super) struct Tally {
    start: Instant,
    /// What the run is at, for whoever watches.
    pub doing: Cell<&'static str>,
    /// Connections that were made.
    connections: Cell<u64>,
    /// Messages that came, each receiver's by itself.
    pub received: Cell<u64>,
    /// Publishes that were confirmed.
    pub confirmed: Cell<u64>,
    /// Refusals, and connections that broke.
    pub errors: Cell<u64>,
    /// The first of them.
    pub first_error: RefCell<Option<String>>,
    /// Messages that did not come, came again, came late. Known at the end.
    pub lost: Cell<u64>,
    /// See `lost`.
    pub duplicates: Cell<u64>,
    /// See `lost`.
    pub reordered: Cell<u64>,
    /// What is published from the first of these points in time to the second is measured.
    measured: Cell<(u64, u64)>,
    latency: RefCell<Option<Histogram<u64>>>,
    /// How late the generator was at worst since latencies count.
    pub late: Cell<Duration>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            doing: Cell::new("joining"),
            connections: Cell::default(),
            received: Cell::default(),
            confirmed: Cell::default(),
            errors: Cell::default(),
            first_error: RefCell::default(),
            lost: Cell::default(),
            duplicates: Cell::default(),
            reordered: Cell::default(),
            measured: Cell::new((u64::MAX, u64::MAX)),
            latency: RefCell::new(Histogram::new_with_max(LONGEST, 3).ok()),
            late: Cell::default(),
        }
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many connections were made before this one.
    pub fn next_connection(&self) -> u64 {
        count(&self.connections, 1);
        self.connections.get() - 1
    }

    /// From here on latencies count, and those before don't any more.
    pub fn measure(&self) {
        self.latency.borrow_mut().iter_mut().for_each(Histogram::reset);
        self.late.set(Duration::ZERO);
        self.measured.set((self.now(), u64::MAX));
    }

    /// Of what is published from here on they don't.
    pub fn measure_no_more(&self) {
        self.measured.set((self.measured.get().0, self.now()));
    }

    /// A message that was published then has come.
    pub fn delivered(&self, sent: u64) {
        let (from, to) = self.measured.get();
        if (from..to).contains(&sent) {
            self.record(self.now().saturating_sub(sent));
        }
    }

    /// Something took so many nanoseconds.
    pub fn record(&self, nanos: u64) {
        if let Some(latency) = self.latency.borrow_mut().as_mut() {
            latency.saturating_record(nanos / 1000);
        }
    }

    /// The latency, in ms, that this share of messages had at most. None if there were no messages.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let latency = self.latency.borrow();
        let latency = latency.as_ref().filter(|latency| !latency.is_empty())?;
        Some(latency.value_at_quantile(share) as f64 / 1000.0)
    }

    /// Something went wrong.
    pub fn error(&self, what: impl FnOnce() -> String) {
        count(&self.errors, 1);
        self.first_error.borrow_mut().get_or_insert_with(what);
    }

    /// Waits until so many messages came, for as long as some still come.
    pub async fn settle(&self, expected: u64) {
        let all = async {
            while self.received.get() < expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { () = all => {} () = self.nothing_for(|| PATIENCE) => {} }
        // What comes twice comes now.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Waits until no message has come for so long.
    pub async fn nothing_for(&self, patience: impl Fn() -> Duration) {
        let (mut seen, mut since) = (self.received.get(), Instant::now());
        while since.elapsed() < patience() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.received.get() != seen {
                (seen, since) = (self.received.get(), Instant::now());
            }
        }
    }
}

/// Adds to a count.
pub(super) fn count(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_three_digits_however_long_they_are() {
        let tally = Tally::new();
        assert_eq!(tally.quantile(0.5), None);
        [500_000, 80_000_000, 30_000_000_000].into_iter().for_each(|nanos| tally.record(nanos));
        for (share, expected) in [(0.0, 0.5), (0.5, 80.0), (1.0, 30_000.0)] {
            let value = tally.quantile(share).unwrap_or_default();
            assert!((value / expected - 1.0).abs() < 0.002, "{share}: {value}");
        }
    }
}
