//! A token bucket: so many a second, and as many at once. Pure.

use std::time::{Duration, Instant};

/// The rate of one connection.
#[derive(Debug)]
pub struct Rate {
    a_second: Option<f64>,
    left: f64,
    filled: Option<Instant>,
    refused: u32,
}

impl Rate {
    /// So many a second; `None` for no limit.
    pub fn new(a_second: Option<u32>) -> Self {
        let a_second = a_second.map(f64::from);
        Self { a_second, left: a_second.unwrap_or_default(), filled: None, refused: 0 }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait for one.
    pub fn spend(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(a_second) = self.a_second else { return Ok(()) };
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.filled = Some(now);
        self.left = (self.left + since.as_secs_f64() * a_second).min(a_second);
        if self.left < 1.0 {
            self.refused += 1;
            return Err(Duration::from_secs_f64((1.0 - self.left) / a_second));
        }
        self.left -= 1.0;
        self.refused = 0;
        Ok(())
    }

    /// How often in a row there was none.
    pub fn refused(&self) -> u32 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(Some(10));
        for _ in 0..10 {
            assert_eq!(rate.spend(start), Ok(()));
        }
        assert_eq!(rate.spend(start), Err(Duration::from_millis(100)));
        assert_eq!(rate.refused(), 1);
        assert_eq!(rate.spend(start + Duration::from_millis(100)), Ok(()));
        assert_eq!(rate.refused(), 0);
        assert!(rate.spend(start + Duration::from_millis(150)).is_err());
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let mut rate = Rate::new(None);
        assert!((0..100_000).all(|_| rate.spend(Instant::now()).is_ok()));
    }
}
