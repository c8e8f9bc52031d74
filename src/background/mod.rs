//! The periodic tasks of a node. Each has a name, runs until the node stops, and is started again if it
//! panics.

pub(crate) mod health;
pub(crate) mod janitor;
pub(crate) mod liveness;
pub(crate) mod probe;
pub(crate) mod revocations;
pub(crate) mod upkeep;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tasks;

const RESTART: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Background {
    stop: CancellationToken,
    running: TaskTracker,
}

impl Background {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop, running: TaskTracker::new() }
    }

    /// Starts a task on a state, which is cloned for each start.
    pub(crate) fn run<S, F>(
        &self,
        name: &'static str,
        state: S,
        task: impl Fn(S, CancellationToken) -> F + Send + 'static,
    ) where
        S: Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, running) = (self.stop.clone(), self.running.token());
        tasks::spawn(async move {
            let _guard = running;
            while let Err(panic) = AssertUnwindSafe(task(state.clone(), stop.clone())).catch_unwind().await {
                // The simulation must see the panic.
                #[cfg(test)]
                if crate::simulation::executor::is_running() {
                    std::panic::resume_unwind(panic);
                }
                drop(panic);
                tracing::error!(name, "a background task panicked; restarting it");
                if !pause(&stop, RESTART).await {
                    return;
                }
            }
        });
    }

    pub(crate) async fn ended(&self) {
        self.running.close();
        let _ = tokio::time::timeout(PATIENCE, self.running.wait()).await;
    }
}

/// Waits. Returns `false` at once when `stop` is cancelled.
async fn pause(stop: &CancellationToken, duration: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_and_ends_with_the_node() {
        let (stop, starts) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let background = Background::new(stop.clone());
        background.run("panics", starts.clone(), |starts, stop| async move {
            assert!(starts.fetch_add(1, Ordering::Relaxed) > 0, "the first time");
            stop.cancelled().await;
        });
        tokio::time::sleep(RESTART * 2).await;
        assert_eq!(starts.load(Ordering::Relaxed), 2);
        stop.cancel();
        background.ended().await;
        assert!(background.running.is_empty());
    }
}
