//! A TCP proxy whose connections break, are delayed, or go silent in one direction, depending on the peer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::harness::Dice;
use crate::model::plan::Direction;

/// The other end of a connection, recognised by the first bytes that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A node, recognised by its own user in Redis.
    Node(usize),
    Replica,
    /// A sentinel, or a client of a node.
    Other,
}

/// The treatment of a peer's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Delay of all traffic, in ms.
    pub delay: u64,
    /// Set to block requests.
    pub up_stalls: bool,
    /// Set to block answers.
    pub down_stalls: bool,
    /// Maximum delay of a new connection, in ms. The delay of each is drawn separately.
    pub scatter: u64,
}

impl Rule {
    /// Blocks both directions.
    pub const SILENT: Self = Self { delay: 0, up_stalls: true, down_stalls: true, scatter: 0 };

    /// Blocks this direction.
    pub fn stalled(direction: Direction) -> Self {
        let up_stalls = direction == Direction::Up;
        Self { up_stalls, down_stalls: !up_stalls, ..Self::default() }
    }

    fn stalls(self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.up_stalls,
            Direction::Down => self.down_stalls,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    rules: HashMap<Peer, Rule>,
    cuts: HashMap<Peer, u64>,
}

/// A running proxy. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of this address.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let state = Arc::new(watch::Sender::new(State::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&target), Arc::clone(&state)));
        Self { address, target, state, task }
    }

    /// Sends new connections to this address.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }

    pub fn rule(&self, peer: Peer, rule: Rule) {
        self.state.send_modify(|state| _ = state.rules.insert(peer, rule));
    }

    /// Breaks all connections of a peer.
    pub fn cut(&self, peer: Peer) {
        self.state.send_modify(|state| *state.cuts.entry(peer).or_default() += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<Mutex<SocketAddr>>, state: Arc<watch::Sender<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut dice = Dice::new(u64::from(listener.local_addr().unwrap().port()));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (target, state, luck) = (*target.lock(), state.subscribe(), dice.next());
        connections.spawn(async move {
            let _ = connection(client, target, state, luck).await; // Either side may break it.
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    luck: u64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = vec![0; 16 * 1024];
    let length = client.read(&mut first).await?;
    first.truncate(length);
    let peer = peer(&first);
    let (rule, cuts) = {
        let state = state.borrow();
        (
            state.rules.get(&peer).copied().unwrap_or_default(),
            state.cuts.get(&peer).copied().unwrap_or_default(),
        )
    };
    if rule.scatter > 0 {
        sleep(Duration::from_millis(luck % rule.scatter)).await;
    }
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut begun = state.clone();
    let up = async {
        pass(&mut begun, peer, Direction::Up).await;
        to_server.write_all(&first).await?;
        pump(from_client, to_server, begun.clone(), peer, Direction::Up).await
    };
    let down = pump(from_server, to_client, state.clone(), peer, Direction::Down);
    let cut = async {
        // It fails once the proxy has ended.
        let _ = state.wait_for(|state| state.cuts.get(&peer).copied().unwrap_or_default() != cuts).await;
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
        () = cut => Ok(()),
    }
}

/// Waits until bytes may pass.
async fn pass(state: &mut watch::Receiver<State>, peer: Peer, direction: Direction) {
    let rule = state.borrow().rules.get(&peer).copied().unwrap_or_default();
    if rule.delay > 0 {
        sleep(Duration::from_millis(rule.delay)).await;
    }
    let flows = |state: &State| !state.rules.get(&peer).is_some_and(|rule| rule.stalls(direction));
    let _ = state.wait_for(flows).await; // It fails once the proxy has ended.
}

/// Copies one direction. The end of the stream is delayed or withheld like everything else.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
    peer: Peer,
    direction: Direction,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut bytes).await.unwrap_or(0);
        pass(&mut state, peer, direction).await;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..length]).await?;
    }
}

fn peer(first: &[u8]) -> Peer {
    let text = String::from_utf8_lossy(first);
    let node = text.split("\nnode").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
    match node {
        Some(node) => Peer::Node(node),
        // A replica begins with nothing but a PING.
        None if text == "*1\r\n$4\r\nPING\r\n" => Peer::Replica,
        None => Peer::Other,
    }
}
