//! The processes of a run: Redis servers in the plan's topology, nodes, and the proxies between all of them.

mod node;
mod proxy;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roomlog_protocol::MessageId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::harness::token_for;
use crate::model::plan::Plan;
use crate::model::record::{Event, Ms};

pub use node::Node;
pub use proxy::{Peer, Proxy, Rule};
pub use storage::{Instance, Storage};

/// Names of rooms. In a cluster, two of them are on each primary.
const ROOMS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Messages are published, and faults happen.
    Load,
    /// Unconfirmed messages are published again, and no new ones.
    Drain,
    /// Subscribers continue to the end of the logs.
    Quiet,
}

/// The record as it grows.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    events: Mutex<Vec<Event>>,
    sessions: Mutex<u64>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { began: Instant::now(), events: Mutex::default(), sessions: Mutex::default() }
    }

    /// Returns the milliseconds since the run began.
    pub fn now(&self) -> Ms {
        self.began.elapsed().as_millis() as Ms
    }

    pub fn add(&self, event: Event) {
        self.events.lock().push(event);
    }

    /// Adds a violation.
    pub fn broken(&self, rule: &str, text: String) {
        self.add(Event::Broken { at: self.now(), rule: rule.into(), text });
    }

    /// Returns a number for a new session.
    pub fn session(&self) -> u64 {
        let mut sessions = self.sessions.lock();
        *sessions += 1;
        *sessions
    }

    /// Takes all events so far.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }
}

/// The world of a run.
#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    /// The rooms in use.
    pub rooms: Vec<&'static str>,
    pub nodes: Vec<Node>,
    /// The Redis servers.
    pub storage: Storage,
    pub record: Recorder,
    /// The phase of the run, and in the end the newest message of each room.
    pub phase: watch::Sender<(Phase, Vec<MessageId>)>,
}

impl World {
    /// Starts everything that a plan needs.
    pub async fn start(plan: Plan) -> Arc<Self> {
        let storage = Storage::start(&plan).await;
        let mut nodes = Vec::new();
        for index in 0..plan.nodes {
            nodes.push(Node::start(index, &storage.url(index), plan.durability).await);
        }
        let rooms = ROOMS.to_vec();
        let phase = watch::Sender::new((Phase::Load, Vec::new()));
        Arc::new(Self { plan, rooms, nodes, storage, record: Recorder::new(), phase })
    }

    /// Returns a token that stays valid even if clocks are wrong by weeks.
    pub fn token(user: &str) -> String {
        let rooms = serde_json::json!({ "*": ["read", "write", "manage"] });
        token_for(user, rooms, Duration::from_secs(400 * 24 * 3600))
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().0
    }

    /// Returns the newest message of a room, once the run is quiet.
    pub fn end_of(&self, room: &str) -> Option<MessageId> {
        let phase = self.phase.borrow();
        let index = self.rooms.iter().position(|name| *name == room)?;
        (phase.0 == Phase::Quiet).then(|| phase.1[index])
    }

    /// Waits until all servers and nodes work.
    ///
    /// # Errors
    /// A description of what does not work after this time.
    pub async fn settled(&self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let mut wanting = self.storage.wanting();
            for node in &self.nodes {
                if wanting.is_none() && !node.is_ready().await {
                    wanting = Some(format!("node {} is not ready", node.index));
                }
            }
            match wanting {
                None => return Ok(()),
                Some(reason) if Instant::now() > deadline => return Err(reason),
                Some(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }
}
