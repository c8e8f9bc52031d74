//! The brake on removal by age: a clock that jumps must not delete rooms. Pure.

use std::time::{Duration, Instant};

/// Time without removal by age after a clock has jumped ahead. It lets an operator correct the clock.
const HOLD: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(super) struct Brake {
    /// The last reading before a jump: when it was taken, and the time that it showed.
    believed: Option<(Instant, u64)>,
    jumped: Option<Instant>,
}

impl Brake {
    /// Records the time that the clock shows, in Unix ms. Returns true if nothing may be removed by age: the
    /// clock recently jumped ahead of the elapsed time by more than `tolerance`.
    pub(super) fn holds(&mut self, at: Instant, now_ms: u64, tolerance: Duration) -> bool {
        let Some((then, believed)) = self.believed else {
            self.believed = Some((at, now_ms));
            return false;
        };
        let passed = at.saturating_duration_since(then);
        if now_ms.saturating_sub(believed) <= ms(passed + tolerance) {
            // It may have stepped back. The new time is accepted, since that deletes less.
            (self.believed, self.jumped) = (Some((at, now_ms)), None);
            return false;
        }
        let since = *self.jumped.get_or_insert(at);
        if at.saturating_duration_since(since) < HOLD {
            return true;
        }
        (self.believed, self.jumped) = (Some((at, now_ms)), None);
        false
    }

    pub(super) fn is_held(&self) -> bool {
        self.jumped.is_some()
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(65);
    const START: u64 = 1_800_000_000_000;

    /// Simulates readings, as (seconds passed, seconds that the clock is ahead of them). Returns for each if
    /// removal was held.
    fn readings(readings: &[(u64, i64)]) -> Vec<bool> {
        let (mut brake, at) = (Brake::default(), Instant::now());
        let reading = |&(passed, ahead): &(u64, i64)| {
            let shown = START.saturating_add_signed((passed as i64 + ahead) * 1000);
            brake.holds(at + Duration::from_secs(passed), shown, TOLERANCE)
        };
        readings.iter().map(reading).collect()
    }

    #[test]
    fn a_steady_clock_holds_no_removal() {
        assert_eq!(readings(&[(0, 0), (5, 0), (10, 1), (7200, 60), (7205, -3600)]), [false; 5]);
    }

    #[test]
    fn a_jump_ahead_holds_removal_until_the_clock_is_corrected_or_an_hour_has_passed() {
        let month = 31 * 24 * 3600;
        assert_eq!(
            readings(&[(0, 0), (5, month), (10, month), (15, 0), (20, 0)]),
            [false, true, true, false, false]
        );
        assert_eq!(readings(&[(0, 0), (5, month), (3600, month), (3606, month)]), [false, true, true, false]);
    }

    #[test]
    fn only_jumps_beyond_the_tolerance_hold_removal() {
        assert_eq!(readings(&[(0, 0), (5, 66)]), [false, true]);
        assert_eq!(readings(&[(0, 0), (5, 65)]), [false, false]);
    }
}
