//! Rate limits of a node's users: a token bucket for each user, shared by all of the user's connections and
//! requests. The time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::LimitsConfig;
use crate::protocol::{ErrorCode, Failure, UserId};

#[derive(Debug, Clone, Copy)]
struct Limit {
    a_second: f64,
    at_once: f64,
}

impl Limit {
    fn fills_in(self) -> Duration {
        Duration::from_secs_f64(self.at_once / self.a_second)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn spend(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.left = (self.left + since.as_secs_f64() * limit.a_second).min(limit.at_once);
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / limit.a_second));
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// The buckets in two generations: those used since the last rotation, and those used before it. The older
/// one is dropped as a whole each time a bucket could have filled, so that expiry needs no scan.
#[derive(Debug, Default)]
struct Users {
    young: HashMap<UserId, Bucket>,
    old: HashMap<UserId, Bucket>,
    turned: Option<Instant>,
}

#[derive(Debug)]
struct Rates {
    limit: Option<Limit>,
    users: Mutex<Users>,
}

impl Rates {
    /// Creates a limit of `a_second` for each user, with bursts of `at_once`. `None` means no limit.
    fn new(a_second: Option<u32>, at_once: u32) -> Self {
        let limit = a_second.map(|a_second| Limit { a_second: a_second.into(), at_once: at_once.into() });
        Self { limit, users: Mutex::default() }
    }

    /// Takes one token from a user's bucket.
    ///
    /// # Errors
    /// The time to wait for one.
    fn spend(&self, user: &UserId, now: Instant) -> Result<(), Duration> {
        let Some(limit) = self.limit else { return Ok(()) };
        // Dropped after the lock is released.
        let _forgotten;
        let mut users = self.users.lock();
        if now.saturating_duration_since(*users.turned.get_or_insert(now)) >= limit.fills_in() {
            let young = std::mem::take(&mut users.young);
            _forgotten = std::mem::replace(&mut users.old, young);
            users.turned = Some(now);
        }
        if let Some(bucket) = users.young.get_mut(user) {
            return bucket.spend(limit, now);
        }
        let full = Bucket { left: limit.at_once, filled: now };
        let bucket = users.old.remove(user).unwrap_or(full);
        users.young.entry(user.clone()).or_insert(bucket).spend(limit, now)
    }

    fn give_back(&self, user: &UserId) {
        if let (Some(limit), Some(bucket)) = (self.limit, self.users.lock().young.get_mut(user)) {
            bucket.left = (bucket.left + 1.0).min(limit.at_once);
        }
    }
}

/// Burst of new durable subscriptions of a user: enough for an app that subscribes to all its rooms at its
/// first start.
const CREATED_AT_ONCE: u32 = 1000;

#[derive(Debug)]
pub struct Limits {
    /// Publishes and signals.
    publishing: Rates,
    /// Creations that stay in Redis without a message: durable subscriptions.
    creating: Rates,
}

impl Limits {
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            publishing: Rates::new(config.publish_rate, config.publish_rate.unwrap_or(1)),
            creating: Rates::new(config.create_rate, CREATED_AT_ONCE),
        }
    }

    pub fn publish(&self, user: &UserId) -> Result<(), Failure> {
        let spent = self.publishing.spend(user, Instant::now());
        spent.map_err(|wait| too_fast("publishes and signals", wait))
    }

    pub fn create(&self, user: &UserId) -> Result<(), Failure> {
        let spent = self.creating.spend(user, Instant::now());
        spent.map_err(|wait| too_fast("new durable subscriptions", wait))
    }

    pub fn not_created(&self, user: &UserId) {
        self.creating.give_back(user);
    }
}

fn too_fast(of: &str, wait: Duration) -> Failure {
    Failure {
        code: ErrorCode::RateLimited,
        message: format!("too many {of}; slow down"),
        retry_after_ms: Some(wait.as_millis().max(1) as u64),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(n: usize) -> UserId {
        format!("user{n}").parse().unwrap()
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let (start, rates, ann) = (Instant::now(), Rates::new(Some(10), 30), user(0));
        for _ in 0..30 {
            assert_eq!(rates.spend(&ann, start), Ok(()));
        }
        assert_eq!(rates.spend(&ann, start), Err(Duration::from_millis(100)));
        assert_eq!(rates.spend(&ann, start + Duration::from_millis(100)), Ok(()));
        assert!(rates.spend(&ann, start + Duration::from_millis(150)).is_err());
        rates.give_back(&ann);
        assert_eq!(rates.spend(&ann, start + Duration::from_millis(150)), Ok(()));
    }

    #[test]
    fn each_user_keeps_its_rate_over_a_rotation_and_idle_users_are_dropped() {
        let (start, rates) = (Instant::now(), Rates::new(Some(1), 2));
        let at = |ms: u64| start + Duration::from_millis(ms);
        for n in 0..1000 {
            assert_eq!(rates.spend(&user(n), start), Ok(()));
            assert_eq!(rates.spend(&user(n), at(1900)), Ok(()));
            assert!(rates.spend(&user(n), at(1900)).is_ok());
            assert!(rates.spend(&user(n), at(1900)).is_err());
        }
        // The generations rotate, and the bucket is still the same.
        assert!(rates.spend(&user(7), at(2000)).is_err());
        assert_eq!(rates.users.lock().old.len(), 999);
        for n in 1..100 {
            assert_eq!(rates.spend(&user(1000 + n), at(2000 * n as u64)), Ok(()));
            let users = rates.users.lock();
            assert!(n < 3 || users.young.len() + users.old.len() <= 2);
        }
    }

    #[test]
    fn without_a_limit_nothing_is_refused_or_tracked() {
        let rates = Rates::new(None, 1);
        assert!((0..1000).all(|n| rates.spend(&user(n), Instant::now()).is_ok()));
        assert!(rates.users.lock().young.is_empty());
    }
}
