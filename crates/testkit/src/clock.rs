//! Wall clocks that tests set, for processes under test: a node, or a Redis. A small library shifts the
//! machine's clock by the amount in a file. Monotonic time is unaffected.

use super::shim::{Dials, compiled};

/// A clock for one process or several. Its setting outlives this value.
#[derive(Debug)]
pub struct Clock(Dials);

impl Clock {
    /// Creates a clock that agrees with the machine's.
    pub fn new() -> Self {
        Self(Dials::new(&[0]))
    }

    /// Sets the clock `ms` milliseconds ahead of the machine's, or behind it if negative.
    pub fn shift(&self, ms: i64) {
        self.0.set(&[ms]);
    }

    /// Returns the environment that makes a process follow this clock.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let library = compiled("crates/testkit/src/clock.c").to_str().unwrap().to_owned();
        [("LD_PRELOAD", library), ("TEST_CLOCK", self.0.path().to_owned())]
    }
}
