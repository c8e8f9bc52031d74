//! Where the hub, sessions and the way to Redis start their tasks: in production the runtime runs them; in a simulation its
//! executor does, in an order that its seed decides.
//!
//! What runs in a simulation waits by tokio's clock, which tests can stop, and none of it leaves the order of its `select!` to
//! chance.

/// Starts a task that nobody waits for.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[cfg(test)]
    let Some(task) = crate::simulation::executor::adopt(task) else { return };
    tokio::spawn(task);
}

/// Whether a bug is planted, to see that the simulation finds it. Never outside of tests.
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
