//! A run: the world, the load, the faults, and the observations at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use roomlog_protocol::MessageId;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::faults;
use crate::harness::Reply;
use crate::load::{self, id, stored};
use crate::model::check::{Violation, check};
use crate::model::plan::Plan;
use crate::model::record::{self, Event, Ms, Outcome, Publish, Stored};
use crate::model::recovery;
use crate::world::{Phase, World};

/// Maximum time for everything to work again after the last fault.
const RECOVERY: Duration = Duration::from_secs(90);

/// Maximum time for subscribers to reach the end once publishing is over.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// Required time without any event before the logs count as final.
const SILENCE: Duration = Duration::from_millis(1500);

/// The sender of the last message of each room.
const LAST: &str = "last";

/// The results of a run.
#[derive(Debug)]
pub struct Outcomes {
    pub plan: Plan,
    /// The record.
    pub events: Vec<Event>,
    /// The log of each process, by its name.
    pub logs: Vec<(String, String)>,
    pub violations: Vec<Violation>,
    /// Recovery times, with the faults' indices in the plan.
    pub recoveries: Vec<(usize, Ms)>,
}

/// Carries out a plan on threads of its own.
pub fn run(plan: Plan) -> Outcomes {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut logs = Vec::new();
    let mut events = Vec::new();
    match caught(|| runtime.block_on(World::start(plan.clone()))) {
        Ok(world) => {
            if let Err(panic) = caught(|| runtime.block_on(story(Arc::clone(&world)))) {
                world.record.broken("the program goes on", panic);
            }
            runtime.block_on(async {
                for (index, node) in world.nodes.iter().enumerate() {
                    logs.push((format!("node{index}"), node.end().await.join("\n")));
                }
                logs.extend(world.storage.logs().await);
            });
            events = world.record.take();
        }
        Err(panic) => events.push(Event::Broken { at: 0, rule: "the world starts".into(), text: panic }),
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    for (name, log) in &logs {
        for line in log.lines().filter(|line| line.contains("panicked at")) {
            let (rule, text) = ("no panic".to_owned(), format!("{name}: {line}"));
            events.push(Event::Broken { at: 0, rule, text });
        }
    }
    let violations = check(&plan, &events);
    let recoveries = recovery::times(&events, plan.nodes);
    Outcomes { plan, events, logs, violations, recoveries }
}

/// Returns the result of a call, or its panic message.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("a panic", |text| text).to_owned(),
    })
}

async fn story(world: Arc<World>) {
    let record = &world.record;
    if let Err(reason) = world.settled(RECOVERY).await {
        return record.broken("all works at first", reason);
    }
    let mut readers = load::readers(&world);
    let mut publishers = load::publishers(&world);
    faults::carry_out(&world).await;
    let rest = Duration::from_secs(world.plan.seconds).as_millis() as Ms;
    sleep(Duration::from_millis(rest.saturating_sub(record.now()))).await;
    world.storage.heal().await;
    // Publishing continues, so that recovery is observed.
    if let Err(reason) = world.settled(RECOVERY).await {
        record.broken("all recovers", reason);
    }
    sleep(SILENCE).await;
    world.phase.send_modify(|phase| phase.0 = Phase::Drain);
    all(&mut publishers).await;
    sleep(SILENCE).await;
    for room in &world.rooms {
        if !publish_last(&world, room).await {
            return record.broken("publishing recovers", format!("nothing is confirmed in {room}"));
        }
    }
    sleep(SILENCE).await;
    let mut histories = Vec::new();
    for room in &world.rooms {
        histories.push(history(&world, 0, room).await.unwrap_or_default());
    }
    record.add(Event::Quiet { at: record.now() });
    let ends = histories.iter().map(|log| log.last().map_or(MessageId::ZERO, |last| last.id)).collect();
    world.phase.send_replace((Phase::Quiet, ends));
    if timeout(CATCHING_UP, all(&mut readers)).await.is_err() {
        let late = readers.len();
        record.broken("all catch up", format!("{late} subscribers did not within {CATCHING_UP:?}"));
        readers.abort_all();
    }
    observe(&world).await;
}

/// Waits for all tasks. Panics in them are bugs of this program.
async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// Publishes the last message of a room, retrying until it is confirmed.
async fn publish_last(world: &World, room: &str) -> bool {
    let (key, deadline) = (Uuid::new_v4(), Instant::now() + RECOVERY);
    let url = format!("http://{}/v1/rooms/{room}/messages", world.nodes[0].address());
    while Instant::now() < deadline {
        let at = world.record.now();
        let request = client().post(&url).bearer_auth(World::token(LAST));
        let answer = async { request.json(&json!({ "data": "0", "key": key })).send().await?.json().await };
        let answer: Result<Value, reqwest::Error> = answer.await;
        let confirmed = answer.as_ref().ok().and_then(|answer| id(&answer["id"]));
        let outcome = confirmed.map_or_else(|| Outcome::Unknown(format!("{answer:?}")), Outcome::Ok);
        let (till, room, sent) = (world.record.now(), room.to_owned(), format!("{LAST} 0"));
        world.record.add(Event::Publish(Publish { at, till, room, node: 0, key, sent, outcome }));
        if confirmed.is_some() {
            return true;
        }
        sleep(Duration::from_millis(300)).await;
    }
    false
}

/// Returns a room's history as a node serves it.
async fn history(world: &World, node: usize, room: &str) -> Option<Vec<Stored>> {
    let (client, token) = (client(), World::token("observer"));
    let mut messages: Vec<Stored> = Vec::new();
    loop {
        let after = messages.last().map_or(MessageId::ZERO, |last| last.id);
        let address = world.nodes[node].address();
        let url = format!("http://{address}/v1/rooms/{room}/messages?after={after}&limit=1000");
        let answer = client.get(url).bearer_auth(&token).send().await.ok()?;
        let page: Value = answer.error_for_status().ok()?.json().await.ok()?;
        messages.extend(page["messages"].as_array()?.iter().filter_map(stored));
        if page["more"] != true {
            return Some(messages);
        }
    }
}

/// Records the current state as every observer sees it.
async fn observe(world: &World) {
    for room in &world.rooms {
        for node in 0..world.nodes.len() {
            let (room, observer) = ((*room).to_owned(), format!("node {node}"));
            match history(world, node, &room).await {
                Some(messages) => world.record.add(Event::History { room, observer, messages }),
                None => world.record.broken("history is there", format!("{room} at {observer}")),
            }
        }
        match stored_in_redis(world, room) {
            Some(messages) => {
                let (room, observer) = ((*room).to_owned(), "Redis".to_owned());
                world.record.add(Event::History { room, observer, messages });
            }
            None => world.record.broken("the log is there", (*room).to_owned()),
        }
        positions(world, room).await;
    }
}

/// Returns the entries of a log on its primary, without their contents.
fn stored_in_redis(world: &World, room: &str) -> Option<Vec<Stored>> {
    let command = ["XRANGE", &format!("rl:{{{room}}}:log"), "-", "+"];
    let primaries = world.storage.instances.iter().filter(|one| one.is_primary());
    let entries = primaries.filter_map(|one| one.ask(&command)).next()?;
    entries.list().iter().map(entry).collect()
}

fn entry(entry: &Reply) -> Option<Stored> {
    let Reply::Bytes(key) = entry.list()[1].field("key") else { return None };
    let key = Uuid::from_slice(key).ok().or_else(|| Uuid::try_parse_ascii(key).ok())?;
    Some(Stored { id: entry.list()[0].text().parse().ok()?, key, sent: String::new() })
}

async fn positions(world: &World, room: &str) {
    let url = format!("http://{}/v1/rooms/{room}/subscriptions", world.nodes[0].address());
    let answer = async {
        let answer = client().get(url).bearer_auth(World::token("observer")).send().await?;
        answer.error_for_status()?.json::<Value>().await
    };
    match answer.await {
        Ok(listed) => {
            // The subscriptions that the record knows, whose names are also those of their users.
            for kind in ["durable", "contended", "http"] {
                let reader = format!("{kind}-{room}");
                let found = listed.as_array().into_iter().flatten().find(|one| one["user"] == reader);
                let position = found.and_then(|found| id(&found["position"]));
                world.record.add(Event::Position { reader, room: room.to_owned(), position });
            }
        }
        Err(error) => world.record.broken("subscriptions are listed", error.to_string()),
    }
}

/// Saves a run in a directory of its own: the plan, the record, the logs of all processes, and the
/// violations.
pub fn save(outcomes: &Outcomes, into: &Path) -> std::io::Result<PathBuf> {
    let folder = into.join(format!("{}-{}", outcomes.plan.topology.name(), outcomes.plan.seed));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("plan.json"), serde_json::to_string_pretty(&outcomes.plan)?)?;
    let record = std::fs::File::create(folder.join("record.jsonl"))?;
    record::write(&outcomes.events, std::io::BufWriter::new(record))?;
    let found: Vec<_> =
        outcomes.violations.iter().map(|found| format!("{}: {}\n", found.rule, found.text)).collect();
    std::fs::write(folder.join("violations.txt"), found.concat())?;
    for (name, log) in &outcomes.logs {
        std::fs::write(folder.join(format!("{name}.log")), log)?;
    }
    Ok(folder)
}
