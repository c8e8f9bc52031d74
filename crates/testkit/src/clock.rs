//! Wall clocks that tests set, for processes under test: a node, or a Redis. A small library shifts the machine's clock by as
//! much as a file says. Elapsed time is left alone.

use super::shim::{Dials, compiled};

/// A clock for one process or several. They keep it when this is dropped.
#[derive(Debug)]
pub struct Clock(Dials);

impl Clock {
    /// A clock that is right.
    pub fn new() -> Self {
        Self(Dials::new(&[0]))
    }

    /// Sets the clock so many milliseconds ahead of the machine's, or behind it.
    pub fn shift(&self, ms: i64) {
        self.0.set(&[ms]);
    }

    /// What a process must have in its environment to follow this clock.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let library = compiled("crates/testkit/src/clock.c").to_str().unwrap().to_owned();
        [("LD_PRELOAD", library), ("TEST_CLOCK", self.0.path().to_owned())]
    }
}
