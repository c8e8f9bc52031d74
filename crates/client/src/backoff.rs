//! Pauses between attempts to connect. No I/O, no clock.

use std::time::Duration;

use uuid::Uuid;

/// Time that a connection must hold for its loss to be the first one again.
const STEADY: Duration = Duration::from_secs(5);

/// Pauses that double with each failed attempt, up to a bound.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Notes that a connection was lost, and returns the pause before the next attempt. `held` is the time
    /// for which the connection lasted. The pause is what the server asks for, if it does, and otherwise
    /// random, so that clients that were disconnected together do not reconnect together. `chance` is 0 to
    /// 1.
    pub fn pause(&mut self, held: Duration, asked: Option<Duration>, chance: f64) -> Duration {
        if held >= STEADY {
            self.failures = 0;
        }
        let longest = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_else(|| longest.div_f64(2.0).mul_f64(1.0 + chance))
    }
}

/// Returns a random number from 0 to 1.
pub(super) fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(500), Duration::from_secs(20))
    }

    fn next(backoff: &mut Backoff, chance: f64) -> u128 {
        backoff.pause(Duration::ZERO, None, chance).as_millis()
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_spread() {
        let mut backoff = backoff();
        assert_eq!([next(&mut backoff, 0.0), next(&mut backoff, 0.0)], [250, 500]);
        assert_eq!([next(&mut backoff, 1.0), next(&mut backoff, 1.0)], [2000, 4000]);
        for _ in 0..100 {
            next(&mut backoff, 1.0);
        }
        assert_eq!([next(&mut backoff, 0.0), next(&mut backoff, 1.0)], [10_000, 20_000]);
    }

    #[test]
    fn a_connection_that_held_starts_them_anew_and_a_short_one_does_not() {
        let mut backoff = backoff();
        let pauses = [0, 4, 60].map(|held| backoff.pause(Duration::from_secs(held), None, 1.0).as_millis());
        assert_eq!(pauses, [500, 1000, 500]);
    }

    #[test]
    fn the_server_may_ask_for_another_pause() {
        let asked = Duration::from_millis(1666);
        assert_eq!(backoff().pause(Duration::ZERO, Some(asked), 0.5), asked);
    }

    #[test]
    fn chances_are_spread_over_their_range() {
        let chances: Vec<f64> = (0..200).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|chance| *chance < 0.3) && chances.iter().any(|chance| *chance > 0.7));
    }
}
