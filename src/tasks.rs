//! Starts the tasks of the hub, the sessions and the Redis connections: on the runtime in production, on the
//! simulation's executor in tests, which picks their order by its seed.
//!
//! Code that runs in a simulation waits by tokio's clock, which tests can stop, and leaves the order of no
//! `select!` to chance.

pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[cfg(test)]
    let Some(task) = crate::simulation::executor::adopt(task) else { return };
    tokio::spawn(task);
}

/// True if a bug is planted, to check that the simulation finds it. Never outside tests.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(test)]
        let planted = crate::simulation::bugs::is_planted(crate::simulation::bugs::Bug::$bug);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}
pub(crate) use planted;
