//! The counts that all members of a run share, on one thread.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is distinguished from longer ones, in µs: ten minutes.
const LONGEST: u64 = 600_000_000;

/// Maximum wait for messages while none arrive.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Counts and latencies of one run.
#[derive(Debug)]
pub(super) struct Tally {
    start: Instant,
    /// The current activity of the run, for its progress line.
    pub doing: Cell<&'static str>,
    /// Connections that were made.
    connections: Cell<u64>,
    /// Messages received, counted for each receiver.
    pub received: Cell<u64>,
    /// Publishes that were confirmed.
    pub confirmed: Cell<u64>,
    /// Refusals, and connections that broke.
    pub errors: Cell<u64>,
    /// The first of the errors.
    pub first_error: RefCell<Option<String>>,
    /// Messages that never arrived. Known at the end.
    pub lost: Cell<u64>,
    /// Messages that arrived more than once. Known at the end.
    pub duplicates: Cell<u64>,
    /// Messages that arrived late. Known at the end.
    pub reordered: Cell<u64>,
    /// Start and end of the measurement. Messages published in between count.
    measured: Cell<(u64, u64)>,
    latency: RefCell<Option<Histogram<u64>>>,
    /// Maximum delay of the generator since the measurement began.
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

    /// Returns the nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the number of connections made before this one.
    pub fn next_connection(&self) -> u64 {
        count(&self.connections, 1);
        self.connections.get() - 1
    }

    /// Starts the measurement, dropping the latencies recorded before.
    pub fn measure(&self) {
        self.latency.borrow_mut().iter_mut().for_each(Histogram::reset);
        self.late.set(Duration::ZERO);
        self.measured.set((self.now(), u64::MAX));
    }

    /// Ends the measurement: messages published from now on do not count.
    pub fn measure_no_more(&self) {
        self.measured.set((self.measured.get().0, self.now()));
    }

    /// Records the delivery of a message published at `sent`.
    pub fn delivered(&self, sent: u64) {
        let (from, to) = self.measured.get();
        if (from..to).contains(&sent) {
            self.record(self.now().saturating_sub(sent));
        }
    }

    /// Records a latency in nanoseconds.
    pub fn record(&self, nanos: u64) {
        if let Some(latency) = self.latency.borrow_mut().as_mut() {
            latency.saturating_record(nanos / 1000);
        }
    }

    /// Returns the quantile of the latencies at `share`, in ms. `None` if there were no messages.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let latency = self.latency.borrow();
        let latency = latency.as_ref().filter(|latency| !latency.is_empty())?;
        Some(latency.value_at_quantile(share) as f64 / 1000.0)
    }

    /// Records an error.
    pub fn error(&self, what: impl FnOnce() -> String) {
        count(&self.errors, 1);
        self.first_error.borrow_mut().get_or_insert_with(what);
    }

    /// Waits until `expected` messages have arrived, as long as some still arrive.
    pub async fn settle(&self, expected: u64) {
        let all = async {
            while self.received.get() < expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { () = all => {} () = self.nothing_for(|| PATIENCE) => {} }
        // Duplicates arrive during this time.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Waits until no message has arrived for this long.
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
    fn latencies_keep_three_digits_at_any_magnitude() {
        let tally = Tally::new();
        assert_eq!(tally.quantile(0.5), None);
        [500_000, 80_000_000, 30_000_000_000].into_iter().for_each(|nanos| tally.record(nanos));
        for (share, expected) in [(0.0, 0.5), (0.5, 80.0), (1.0, 30_000.0)] {
            let value = tally.quantile(share).unwrap_or_default();
            assert!((value / expected - 1.0).abs() < 0.002, "{share}: {value}");
        }
    }
}
