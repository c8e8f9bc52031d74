//! A node's process, and the proxy in front of it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex as Lock;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::Proxy;
use crate::harness::{Clock, DEADLINE, Server};
use crate::model::plan::Durability;

#[derive(Debug)]
pub struct Node {
    pub index: usize,
    pub clock: Clock,
    /// The proxy for clients.
    pub front: Proxy,
    server: Mutex<Option<Server>>,
    env: Vec<(&'static str, String)>,
    /// The logs of the processes that were killed.
    logs: Lock<Vec<String>>,
    client: reqwest::Client,
}

impl Node {
    /// Starts a node on this Redis.
    pub async fn start(index: usize, redis: &str, durability: Durability) -> Self {
        let clock = Clock::new();
        let mut env: Vec<(&'static str, String)> = clock.env().to_vec();
        // Little memory and frequent checks, so that rare cases happen often.
        for (name, value) in [
            ("ROOMLOG_REDIS__URL", redis),
            ("ROOMLOG_REDIS__DURABILITY", durability.name()),
            ("ROOMLOG_HUB__RING_MESSAGES", "20"),
            ("ROOMLOG_HUB__LINGER", "1s"),
            ("ROOMLOG_HUB__CHECK_INTERVAL", "1s"),
            ("ROOMLOG_LIMITS__OUTBOX", "65536"),
        ] {
            env.push((name, value.to_owned()));
        }
        let front = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).await;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
        let (server, logs) = (Mutex::new(None), Lock::default());
        let node = Self { index, clock, front, server, env, logs, client };
        node.begin().await;
        node
    }

    /// Starts its process, retrying until it stays up: it may end while Redis is away.
    pub async fn begin(&self) {
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let deadline = Instant::now() + 3 * DEADLINE;
        loop {
            match Server::try_listen("127.0.0.1:0", &[], &env).await {
                Ok(server) => {
                    self.front.lead_to(server.address);
                    *self.server.lock().await = Some(server);
                    return;
                }
                Err(log) => assert!(Instant::now() < deadline, "a node does not start: {log:#?}"),
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    pub async fn signal(&self, signal: Signal) {
        if let Some(server) = self.server.lock().await.as_ref() {
            server.signal(signal);
        }
    }

    pub async fn kill(&self) {
        if let Some(server) = self.server.lock().await.take() {
            self.bury(server);
        }
    }

    /// Asks its process to end, and kills it if it does not end within its grace time.
    pub async fn terminate(&self) {
        if let Some(mut server) = self.server.lock().await.take() {
            server.signal(Signal::SIGTERM);
            let _ = timeout(Duration::from_secs(12), server.ended()).await; // It is killed below.
            self.bury(server);
        }
    }

    fn bury(&self, server: Server) {
        self.logs.lock().extend(server.log());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(server))); // A panic of the server is in the log.
    }

    /// Kills its process, and returns everything that it has logged.
    pub async fn end(&self) -> Vec<String> {
        self.kill().await;
        std::mem::take(&mut self.logs.lock())
    }

    /// Returns the address for clients.
    pub fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// Returns whether messages get through it.
    pub async fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.front.address);
        self.client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }
}
