//! The execution of faults.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::harness::{Move, Place, SLOTS};
use crate::model::plan::{Fault, POWER_AFTER, Planned, Topology};
use crate::model::record::Event;
use crate::world::{Instance, Peer, Rule, World};

/// Duration of a replication lag before the primary fails.
const LAG_BEFORE: Duration = Duration::from_millis(1500);

/// Maximum time, in ms, that each of a node's broken connections takes to come back.
const SCATTER: u64 = 1500;

/// Maximum number of attempts at a step of a slot's move.
const STEPS: u32 = 30;

/// Carries out the plan: the storage faults one after the other, and the other faults in parallel.
pub async fn carry_out(world: &World) {
    let all = world.plan.faults.iter().copied().enumerate();
    let (storage, others) = all.partition(|(_, planned)| is_storage(planned.fault));
    tokio::join!(lane(world, storage), lane(world, others));
}

async fn lane(world: &World, faults: Vec<(usize, Planned)>) {
    for (index, planned) in faults {
        sleep(Duration::from_millis(planned.at.saturating_sub(world.record.now()))).await;
        let (at, lasts) = (world.record.now(), Duration::from_millis(planned.lasts));
        let done = if is_storage(planned.fault) {
            storage(world, planned.fault, lasts).await
        } else {
            other(world, planned.fault, lasts).await
        };
        if done.is_none() {
            eprintln!("    at {at} ms: {} could not be carried out", planned.fault.name());
        }
        world.record.add(Event::Fault { at, till: world.record.now(), index });
    }
}

fn is_storage(fault: Fault) -> bool {
    use Fault::{
        DiskFull, Failover, NodeAdded, Partition, PowerLoss, PrimaryKill, PrimaryPause, RedisKill,
        RedisPause, RedisRestart, SlotHold, SlotMove, SlowSync,
    };
    matches!(
        fault,
        RedisKill
            | RedisPause
            | RedisRestart
            | PowerLoss
            | DiskFull { .. }
            | SlowSync { .. }
            | PrimaryKill { .. }
            | PrimaryPause { .. }
            | Failover { .. }
            | Partition { .. }
            | SlotMove { .. }
            | SlotHold { .. }
            | NodeAdded { .. }
    )
}

/// Carries out a fault of the processes that keep the logs. Returns `None` if there was no process to apply
/// it to.
async fn storage(world: &World, fault: Fault, lasts: Duration) -> Option<()> {
    let storage = &world.storage;
    match fault {
        Fault::PrimaryKill { shard, lag } | Fault::PrimaryPause { shard, lag } => {
            let primary = storage.primary(shard)?;
            if lag > 0 {
                primary.rule(&[Peer::Replica], Rule { delay: lag, ..Rule::default() });
                sleep(LAG_BEFORE).await;
            }
            let mut process = primary.process.lock().await;
            if matches!(fault, Fault::PrimaryKill { .. }) {
                process.stop();
            } else {
                process.pause();
            }
            // Writes in flight to the replicas are lost with the primary.
            primary.proxy.cut(Peer::Replica);
            primary.rule(&[Peer::Replica], Rule::default());
            sleep(lasts).await;
            if matches!(fault, Fault::PrimaryKill { .. }) {
                process.start_again().await;
            } else {
                process.resume();
            }
        }
        // The sentinel has one shard.
        Fault::Failover { .. } if world.plan.topology == Topology::Sentinel => {
            let place = Place::Port(storage.sentinel().port());
            tokio::task::block_in_place(|| place.ask(&["SENTINEL", "FAILOVER", "main"], LAG_BEFORE)).ok()?;
            sleep(lasts).await;
        }
        Fault::Failover { shard } => {
            let pair = [&storage.instances[shard], &storage.instances[shard + SLOTS.len()]];
            pair.into_iter().find(|one| !one.is_primary())?.ask(&["CLUSTER", "FAILOVER"])?;
            sleep(lasts).await;
        }
        Fault::Partition { node } => {
            let primary = storage.primary(0)?;
            let (inside, outside): (Vec<Peer>, Vec<Peer>) =
                storage.peers().into_iter().partition(|peer| *peer == Peer::Node(node));
            let others = || storage.instances.iter().filter(|one| one.port != primary.port);
            primary.rule(&outside, Rule::SILENT);
            others().for_each(|one| one.rule(&inside, Rule::SILENT));
            sleep(lasts).await;
            primary.rule(&outside, Rule::default());
            others().for_each(|one| one.rule(&inside, Rule::default()));
        }
        Fault::SlotMove { shard } => {
            let to = storage.primary((shard + 1) % SLOTS.len())?;
            there_and_back(world, shard, to, lasts).await?;
        }
        Fault::NodeAdded { shard } => {
            let spare = storage.spare.as_ref()?;
            let port = spare.port.to_string();
            storage.primary(shard)?.ask(&["CLUSTER", "MEET", "127.0.0.1", &port])?;
            // Waits until all nodes know the new one, and it knows all of them.
            let known = format!("cluster_known_nodes:{}", storage.instances.len() + 1);
            let complete = ["cluster_state:ok", &known];
            for _ in 0..100 {
                let knows = |one: &Instance| {
                    let info = one.ask(&["CLUSTER", "INFO"]).map(|info| info.text());
                    info.is_some_and(|info| complete.iter().all(|line| info.contains(line)))
                };
                if storage.instances.iter().chain([spare]).all(knows) {
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
            there_and_back(world, shard, spare, lasts).await?;
        }
        Fault::SlotHold { shard } => {
            let (from, to) =
                (place(storage.primary(shard)?), place(storage.primary((shard + 1) % SLOTS.len())?));
            for moving in moves(world, shard, &from, &to).into_iter().take(1) {
                step(|| moving.begin()).await?;
                sleep(lasts).await;
                step(|| moving.carry(|_| true)).await?;
                step(|| moving.finish(&primaries(world))).await?;
            }
            for moving in moves(world, shard, &to, &from).into_iter().take(1) {
                shift(world, moving).await?;
            }
        }
        _ => of_one_server(world, fault, lasts).await,
    }
    Some(())
}

/// Moves the slots of a shard's rooms to another server, and back after a while.
async fn there_and_back(world: &World, shard: usize, to: &Instance, lasts: Duration) -> Option<()> {
    let (from, to) = (place(world.storage.primary(shard)?), place(to));
    for moving in moves(world, shard, &from, &to) {
        shift(world, moving).await?;
    }
    sleep(lasts).await;
    for moving in moves(world, shard, &to, &from) {
        shift(world, moving).await?;
    }
    Some(())
}

async fn shift(world: &World, moving: Move<'_>) -> Option<()> {
    step(|| moving.begin()).await?;
    step(|| moving.carry(|_| true)).await?;
    step(|| moving.finish(&primaries(world))).await
}

/// Repeats a step of a move until it succeeds: a cluster may be busy, and a slot must not stay half moved. A
/// step that fails for long is printed.
async fn step(step: impl Fn() -> std::io::Result<()>) -> Option<()> {
    for last in (0..STEPS).rev() {
        match tokio::task::block_in_place(&step) {
            Ok(()) => return Some(()),
            Err(error) if last == 0 => eprintln!("    a slot does not move: {error}"),
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
    None
}

fn place(of: &Instance) -> Place {
    Place::Port(of.port)
}

fn primaries(world: &World) -> Vec<Place> {
    world.storage.instances.iter().filter(|one| one.is_primary()).map(place).collect()
}

/// Returns moves of the slots of a shard's rooms.
fn moves<'a>(world: &World, shard: usize, from: &'a Place, to: &'a Place) -> Vec<Move<'a>> {
    let (first, last) = SLOTS[shard];
    let slots = world.rooms.iter().filter_map(|room| {
        let slot = world.storage.instances[0].ask(&["CLUSTER", "KEYSLOT", room])?.number() as u16;
        (first..=last).contains(&slot).then_some(slot)
    });
    slots.map(|slot| Move { slot, from, to }).collect()
}

async fn of_one_server(world: &World, fault: Fault, lasts: Duration) {
    let redis = &world.storage.instances[0];
    let mut process = redis.process.lock().await;
    match fault {
        Fault::RedisKill => {
            process.stop();
            sleep(lasts).await;
            process.start_again().await;
        }
        Fault::RedisRestart => {
            process.terminate().await;
            sleep(lasts).await;
            process.start_again().await;
        }
        Fault::RedisPause => {
            process.pause();
            sleep(lasts).await;
            process.resume();
        }
        Fault::PowerLoss => {
            redis.disk(true, false, 0);
            let held = Duration::from_millis(POWER_AFTER);
            sleep(held).await;
            process.stop();
            redis.disk(false, false, 0);
            sleep(lasts.saturating_sub(held)).await;
            process.start_again().await;
        }
        Fault::DiskFull { killed } => {
            redis.disk(false, true, 0);
            sleep(lasts).await;
            if killed {
                process.stop();
            }
            redis.disk(false, false, 0);
            // With `always`, Redis exits on its own.
            sleep(Duration::from_millis(100)).await;
            if process.has_ended() {
                process.start_again().await;
            }
        }
        Fault::SlowSync { ms } => {
            redis.disk(false, false, ms);
            sleep(lasts).await;
            redis.disk(false, false, 0);
        }
        _ => {}
    }
}

/// Carries out a fault of nodes, connections or settings.
async fn other(world: &World, fault: Fault, lasts: Duration) -> Option<()> {
    let nodes = &world.nodes;
    let everywhere = |node: usize, rule: Rule| {
        world.storage.instances.iter().for_each(|one| one.rule(&[Peer::Node(node)], rule));
    };
    match fault {
        Fault::NodeKill { node } => {
            nodes[node].kill().await;
            sleep(lasts).await;
            nodes[node].begin().await;
        }
        Fault::NodeRestart { node } => {
            nodes[node].terminate().await;
            sleep(lasts).await;
            nodes[node].begin().await;
        }
        Fault::NodePause { node } => {
            nodes[node].signal(Signal::SIGSTOP).await;
            sleep(lasts).await;
            nodes[node].signal(Signal::SIGCONT).await;
        }
        Fault::NodeClock { node, ms } => {
            nodes[node].clock.shift(ms);
            sleep(lasts).await;
            nodes[node].clock.shift(0);
        }
        Fault::ClientsCut { node } => nodes[node].front.cut(Peer::Other),
        Fault::ClientsSlow { node, ms } => {
            clients(world, node, Rule { delay: ms, ..Rule::default() }, lasts).await;
        }
        Fault::ClientsStall { node, direction } => {
            clients(world, node, Rule::stalled(direction), lasts).await;
        }
        Fault::LinkCut { node } => {
            everywhere(node, Rule { scatter: SCATTER, ..Rule::default() });
            world.storage.instances.iter().for_each(|one| one.proxy.cut(Peer::Node(node)));
            sleep(lasts).await;
            everywhere(node, Rule::default());
        }
        Fault::LinkSlow { node, ms } => {
            everywhere(node, Rule { delay: ms, ..Rule::default() });
            sleep(lasts).await;
            everywhere(node, Rule::default());
        }
        Fault::LinkStall { node, direction } => {
            everywhere(node, Rule::stalled(direction));
            sleep(lasts).await;
            everywhere(node, Rule::default());
        }
        Fault::ClientKill { shard, pubsub } => {
            let kind = if pubsub { "pubsub" } else { "normal" };
            world.storage.primary(shard)?.ask(&["CLIENT", "KILL", "TYPE", kind])?;
        }
        Fault::FunctionFlush { shard } => drop(world.storage.primary(shard)?.ask(&["FUNCTION", "FLUSH"])?),
        Fault::MemoryFull { shard } => {
            let primary = world.storage.primary(shard)?;
            let used = primary.info("memory", "used_memory")?;
            primary.ask(&["CONFIG", "SET", "maxmemory", &used])?;
            sleep(lasts).await;
            // The server may be stopped at this moment.
            for _ in 0..30 {
                if primary.ask(&["CONFIG", "SET", "maxmemory", "0"]).is_some() {
                    break;
                }
                sleep(Duration::from_millis(300)).await;
            }
        }
        Fault::RedisClock { ms } => {
            let clock = &world.storage.primary(0)?.clock;
            clock.shift(ms);
            sleep(lasts).await;
            clock.shift(0);
        }
        _ => {}
    }
    Some(())
}

async fn clients(world: &World, node: usize, rule: Rule, lasts: Duration) {
    world.nodes[node].front.rule(Peer::Other, rule);
    sleep(lasts).await;
    world.nodes[node].front.rule(Peer::Other, Rule::default());
}
