//! A token bucket: so many a second, and as many at once. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::protocol::{ErrorCode, Failure, UserId};

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

    /// Whether nothing was taken for so long that it is as good as new.
    fn is_full(&self, now: Instant) -> bool {
        // Whatever the rate is, it fills up in a second.
        self.filled.is_none_or(|filled| now.saturating_duration_since(filled) >= Duration::from_secs(1))
    }
}

/// The rates of users who come without a connection.
#[derive(Debug)]
pub struct Rates {
    a_second: Option<u32>,
    users: Mutex<HashMap<UserId, Rate>>,
}

impl Rates {
    /// So many a second for each user; `None` for no limit.
    pub fn new(a_second: Option<u32>) -> Self {
        Self { a_second, users: Mutex::default() }
    }

    /// Takes one of a user's.
    ///
    /// # Errors
    /// How long to wait for one.
    pub fn spend(&self, user: &UserId, now: Instant) -> Result<(), Duration> {
        if self.a_second.is_none() {
            return Ok(());
        }
        let mut users = self.users.lock();
        if users.len() == users.capacity() && !users.contains_key(user) {
            // Before it grows: so it holds no more than twice the users of a second.
            users.retain(|_, rate| !rate.is_full(now));
        }
        users.entry(user.clone()).or_insert_with(|| Rate::new(self.a_second)).spend(now)
    }
}

/// What a client is told that has to wait for so long.
pub fn refusal(wait: Duration) -> Failure {
    Failure {
        code: ErrorCode::RateLimited,
        message: "too many publishes and signals; slow down".into(),
        retry_after_ms: Some(wait.as_millis().max(1) as u64),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn each_user_has_a_rate_and_who_is_silent_is_forgotten() {
        let (start, rates) = (Instant::now(), Rates::new(Some(1)));
        let user = |n: usize| format!("user{n}").parse().unwrap();
        for n in 0..1000 {
            assert_eq!(rates.spend(&user(n), start), Ok(()));
            assert!(rates.spend(&user(n), start).is_err());
        }
        for n in 1000..10_000 {
            assert_eq!(rates.spend(&user(n), start + Duration::from_secs(n as u64)), Ok(()));
        }
        assert!(rates.users.lock().len() < 2000);
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let mut rate = Rate::new(None);
        assert!((0..100_000).all(|_| rate.spend(Instant::now()).is_ok()));
    }
}
