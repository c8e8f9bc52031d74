//! Decides when to refresh the JWK set for an unknown key id. Pure: the time is an argument.
//!
//! Each read brings all keys. Strangers who invent ids cause reads, but cannot keep a valid key from being
//! found. The rate of reads is bounded all the same. If it cannot be determined now whether a key exists, the
//! answer says so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Reads that may follow each other immediately.
const BURST: f64 = 4.0;

/// Time after which another read is allowed.
const EVERY: Duration = Duration::from_secs(10);

/// The cache of absent ids: its capacity, the lifetime of an entry, and the longest id in bytes.
const ABSENT: usize = 1024;
const ABSENT_FOR: Duration = EVERY;
const LONGEST_ID: usize = 256;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The key does not exist: the set was read after the id was named.
    Absent,
    /// The answer is unknown now, and may be known after this time.
    Unknown(Duration),
    /// Read the set. Call [`Lookups::refreshed`] afterwards.
    Refresh,
}

#[derive(Debug)]
struct Refresh {
    began: Instant,
    ended: Instant,
    succeeded: bool,
}

#[derive(Debug)]
pub(super) struct Lookups {
    left: f64,
    filled: Option<Instant>,
    last: Option<Refresh>,
    absent: HashMap<String, Instant>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self { left: BURST, filled: None, last: None, absent: HashMap::new() }
    }

    /// Returns the next step for an id that was named at `asked`.
    pub(super) fn step(&mut self, id: &str, asked: Instant, now: Instant) -> Step {
        if self.absent.get(id).is_some_and(|known| now.saturating_duration_since(*known) < ABSENT_FOR) {
            return Step::Absent;
        }
        match &self.last {
            Some(last) if last.succeeded && last.began >= asked => {
                self.remember(id, now);
                Step::Absent
            }
            // Requests that waited for a failed read do not each try another.
            Some(last) if !last.succeeded && last.ended >= asked => Step::Unknown(self.wait(now)),
            _ => {
                let wait = self.wait(now);
                if self.left < 1.0 {
                    return Step::Unknown(wait);
                }
                self.left -= 1.0;
                Step::Refresh
            }
        }
    }

    pub(super) fn refreshed(&mut self, began: Instant, ended: Instant, succeeded: bool) {
        self.last = Some(Refresh { began, ended, succeeded });
    }

    /// Returns the time until a read is allowed, at least one second so that clients do not retry too soon.
    fn wait(&mut self, now: Instant) -> Duration {
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.filled = Some(now);
        self.left = (self.left + since.as_secs_f64() / EVERY.as_secs_f64()).min(BURST);
        EVERY.mul_f64((1.0 - self.left).max(0.0)).max(Duration::from_secs(1))
    }

    fn remember(&mut self, id: &str, now: Instant) {
        if id.len() > LONGEST_ID {
            return;
        }
        if self.absent.len() >= ABSENT {
            self.absent.retain(|_, known| now.saturating_duration_since(*known) < ABSENT_FOR);
        }
        if self.absent.len() < ABSENT {
            self.absent.insert(id.to_owned(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_id_is_absent_only_if_the_set_was_read_after_it_was_named() {
        let (mut lookups, start) = (Lookups::new(), Instant::now());
        assert_eq!(lookups.step("a", start, start), Step::Refresh);
        lookups.refreshed(start, start + SECOND, true);
        assert_eq!(lookups.step("a", start, start + SECOND), Step::Absent);
        // The first id is now known to be absent. One named during the read is not.
        assert_eq!(lookups.step("a", start + 2 * SECOND, start + 2 * SECOND), Step::Absent);
        assert_eq!(lookups.step("b", start + SECOND / 2, start + SECOND), Step::Refresh);
        lookups.refreshed(start + SECOND, start + SECOND, true);
        let later = start + SECOND + ABSENT_FOR;
        assert_eq!(lookups.step("a", later, later), Step::Refresh);
    }

    #[test]
    fn while_the_set_cannot_be_read_every_lookup_reports_unknown() {
        let (mut lookups, start) = (Lookups::new(), Instant::now());
        assert_eq!(lookups.step("a", start, start), Step::Refresh);
        lookups.refreshed(start, start + SECOND, false);
        for id in ["a", "b", "c"] {
            assert_eq!(lookups.step(id, start + SECOND / 2, start + SECOND), Step::Unknown(SECOND));
        }
        assert_eq!(lookups.step("a", start + 2 * SECOND, start + 2 * SECOND), Step::Refresh);
    }

    #[test]
    fn invented_ids_cause_few_reads_and_hide_no_valid_key() {
        let (mut lookups, start) = (Lookups::new(), Instant::now());
        for id in ["1", "2", "3", "4"] {
            let now = start + SECOND / 10;
            assert_eq!(lookups.step(id, now, now), Step::Refresh);
            lookups.refreshed(start, start, true);
        }
        let now = start + SECOND / 2;
        let Step::Unknown(wait) = lookups.step("mine", now, now) else { panic!("it cannot be known") };
        assert!(wait > 9 * SECOND && wait <= EVERY, "{wait:?}");
        let now = now + wait + SECOND / 100;
        assert_eq!(lookups.step("mine", now, now), Step::Refresh);
    }

    #[test]
    fn the_cache_of_absent_ids_is_bounded() {
        let (mut lookups, start) = (Lookups::new(), Instant::now());
        lookups.refreshed(start, start, true);
        for n in 0..3 * ABSENT {
            assert_eq!(lookups.step(&n.to_string(), start, start), Step::Absent);
        }
        assert_eq!(lookups.absent.len(), ABSENT);
    }
}
