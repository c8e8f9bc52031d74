//! A cluster in which one primary is silent or dead, or one slot is being moved: that affects the rooms
//! there, and no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::{
    Client, Cluster, NO_CHECKS, Redis, Rest, Server, admin, eventually, everything, id_of, ids, within,
};

/// The promise is a second. Tests share few cores, and the faults to detect take two and more.
const PROMPT: Duration = Duration::from_millis(1500);

/// Returns names of `count` rooms whose slots are on this primary, or on other ones.
fn rooms(cluster: &Cluster, prefix: &str, count: usize, primary: usize, there: bool) -> Vec<String> {
    let names = (0..).map(|number| format!("{prefix}.{number}"));
    names.filter(|room| (cluster.owner(room) == primary) == there).take(count).collect()
}

/// The results of publishes.
#[derive(Default)]
struct Tally {
    confirmed: AtomicUsize,
    refused: AtomicUsize,
    slow: AtomicUsize,
}

/// Publishes to rooms until `stop`, with a client for each, one message after the other.
async fn load(server: &Server, rooms: &[String], tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for room in rooms {
        let (room, tally, stop) = (room.clone(), tally.clone(), stop.clone());
        let mut client = Client::connect(server, &everything("ann")).await;
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let answer = client.request(json!({ "op": "publish", "room": room, "data": 1 })).await;
                if answer["op"] == "ok" {
                    tally.confirmed.fetch_add(1, Ordering::Relaxed);
                } else {
                    tally.refused.fetch_add(1, Ordering::Relaxed);
                }
                if started.elapsed() > PROMPT {
                    tally.slow.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    writers
}

/// Runs a future, which must complete quickly.
async fn promptly<T>(what: &str, doing: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = doing.await;
    assert!(started.elapsed() < PROMPT, "{what} took {:?}", started.elapsed());
    done
}

async fn one_primary_is_lost(lose: impl Fn(&mut Redis), come_back: impl AsyncFn(&mut Redis)) {
    let mut cluster = Cluster::start().await;
    let server = Server::on(&cluster.url()).await;
    let (near, lost) = (rooms(&cluster, "near", 12, 1, false), rooms(&cluster, "lost", 6, 1, true));
    let mut reader = Client::connect(&server, &everything("bob")).await;
    for room in near.iter().chain(&lost) {
        reader.publish(room, json!(0)).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let [healthy, dead] = [Arc::<Tally>::default(), Arc::default()];
    let mut writers = load(&server, &near, &healthy, &stop).await;
    let mut hopeless = load(&server, &lost, &dead, &stop).await;
    eventually("messages are confirmed", async || healthy.confirmed.load(Ordering::Relaxed) > 100).await;

    lose(&mut cluster.nodes[1]);
    let (since, pages) = (Instant::now(), Rest::anonymous(&server));
    let mut fresh = (0..).map(|number| format!("fresh.{number}")).filter(|room| cluster.owner(room) != 1);
    while since.elapsed() < Duration::from_secs(10) {
        let room = fresh.next().unwrap();
        let id = promptly("a publish", reader.publish(&room, json!("here"))).await;
        let join = json!({ "durable": "phone", "since": "0" });
        promptly("a join", async {
            reader.subscribe(&room, join).await;
        })
        .await;
        promptly("the message", reader.until("live")).await;
        promptly("an ack", reader.ok(json!({ "op": "ack", "room": room, "id": id }))).await;
        let history = json!({ "op": "history", "room": room, "after": "0" });
        let page = promptly("history", reader.ok(history)).await;
        assert_eq!(page["messages"].as_array().unwrap().len(), 1);
        assert_eq!(pages.get("/readyz").await.status, 200, "most of the rooms are there");
    }
    let metrics = async || pages.get("/metrics").await.with(200).as_str().unwrap().to_owned();
    eventually("it shows how many are well", async || {
        let metrics = metrics().await;
        metrics.contains("roomlog_redis_primaries 3") && metrics.contains("roomlog_redis_primaries_well 2")
    })
    .await;
    let dead_confirmed = dead.confirmed.load(Ordering::Relaxed);

    come_back(&mut cluster.nodes[1]).await;
    within(Duration::from_secs(10), "the rooms are there again", async || {
        dead.confirmed.load(Ordering::Relaxed) > dead_confirmed + 100
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() || hopeless.join_next().await.is_some() {}
    let [confirmed, refused, slow] =
        [&healthy.confirmed, &healthy.refused, &healthy.slow].map(|count| count.load(Ordering::Relaxed));
    assert!(confirmed > 1000, "{confirmed}");
    assert!(refused * 100 <= confirmed, "{refused} refused, {confirmed} confirmed");
    assert!(slow * 100 <= confirmed, "{slow} slow of {confirmed}");
}

#[tokio::test]
async fn a_silent_primary_affects_only_its_own_rooms() {
    one_primary_is_lost(|redis| redis.pause(), async |redis| redis.resume()).await;
}

#[tokio::test]
async fn a_dead_primary_affects_only_its_own_rooms() {
    one_primary_is_lost(Redis::stop, Redis::start_again).await;
}

/// A slot is being moved for half a minute: some of its rooms are still on the old primary, some have moved
/// already, and some are created meanwhile.
#[tokio::test]
async fn rooms_work_while_their_slot_is_migrated() {
    let cluster = Cluster::start().await;
    let (one, two) = (Server::on(&cluster.url()).await, Server::on(&cluster.url()).await);
    let all = rooms(&cluster, "moving", 14, 0, true);
    let (old, new) = all.split_at(12);
    let (staying, gone) = old.split_at(6);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut near = Client::connect(&one, &everything("bob")).await;
    let mut far = Client::connect(&two, &everything("cia")).await;
    for room in old {
        writer.publish(room, json!("before")).await;
        for reader in [&mut near, &mut far] {
            reader.subscribe(room, json!({ "durable": "phone", "since": "0" })).await;
            assert_eq!(reader.until("live").await.len(), 1);
        }
    }
    for room in &all {
        cluster.begin_to_move(room);
    }
    for room in gone {
        cluster.move_keys(room, |_| true);
    }
    let elsewhere =
        rooms(&cluster, "elsewhere", 8, 0, true).into_iter().chain(rooms(&cluster, "elsewhere", 8, 0, false));
    let (tally, stop) = (Arc::<Tally>::default(), Arc::new(AtomicBool::new(false)));
    let mut others = load(&one, &elsewhere.collect::<Vec<_>>(), &tally, &stop).await;

    let (since, mut published) = (Instant::now(), Vec::new());
    let mut halved = staying.iter().take(2);
    while since.elapsed() < Duration::from_secs(30) {
        for room in &all {
            let key = Uuid::new_v4().to_string();
            let publish = json!({ "op": "publish", "room": room, "data": "on the way", "key": key });
            let first = writer.ok(publish.clone()).await;
            let again = writer.ok(publish).await;
            assert_eq!((id_of(&again), &again["duplicate"]), (id_of(&first), &json!(true)), "{room}");
            published.push((room.clone(), id_of(&first)));
        }
        for room in old {
            let id = published.iter().rev().find(|(known, _)| known == room).unwrap().1.clone();
            near.ok(json!({ "op": "ack", "room": room, "id": &id })).await;
            let page = near.ok(json!({ "op": "history", "room": room, "limit": 1 })).await;
            assert_eq!(ids(page["messages"].as_array().unwrap()), [id]);
        }
        // A room that has moved only in part waits for the rest, for as long as a publisher does.
        if since.elapsed() > Duration::from_secs(10)
            && let Some(room) = halved.next()
        {
            cluster.move_keys(room, |key| key.ends_with(":log"));
            let (id, ()) = tokio::join!(writer.publish(room, json!("in two halves")), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                cluster.move_keys(room, |_| true);
            });
            published.push((room.clone(), id));
        }
    }
    stop.store(true, Ordering::Relaxed);
    while others.join_next().await.is_some() {}
    let [confirmed, refused, slow] =
        [&tally.confirmed, &tally.refused, &tally.slow].map(|count| count.load(Ordering::Relaxed));
    assert!(confirmed > 1000, "{confirmed}");
    assert_eq!((refused, slow), (0, 0), "of {confirmed} elsewhere");

    for room in &all {
        cluster.move_keys(room, |_| true);
        cluster.end_move(room);
    }
    for room in &all {
        published.push((room.clone(), writer.publish(room, json!("after")).await));
    }
    let expected = |room: &String| -> Vec<String> {
        published.iter().filter(|(known, _)| known == room).map(|(_, id)| id.clone()).collect()
    };
    for reader in [&mut near, &mut far] {
        let count = old.iter().map(|room| expected(room).len()).sum();
        let messages = reader.messages(count).await;
        for room in old {
            let seen: Vec<Value> =
                messages.iter().filter(|message| message["room"] == **room).cloned().collect();
            assert_eq!(ids(&seen), expected(room), "{room}");
        }
    }
    let rest = Rest::new(&one, &admin());
    for room in new {
        let head = rest.get(&format!("/v1/rooms/{room}")).await.with(200);
        assert_eq!(head["length"], json!(expected(room).len()), "{head}");
    }
}

/// A message is as safe as on the least safe of the primaries, which may change with a reconnect.
#[tokio::test]
async fn the_weakest_primary_determines_durability() {
    let cluster = Cluster::start().await;
    for node in &cluster.nodes {
        node.ask(&["CONFIG", "SET", "appendonly", "yes", "appendfsync", "always"]);
    }
    let server = Server::with(&cluster.url(), &[("ROOMLOG_REDIS__DURABILITY", "disk")]).await;
    let rest = Rest::anonymous(&server);
    assert_eq!(rest.metric("roomlog_durability_as_wanted").await, 1.0);
    for node in &cluster.nodes {
        node.ask(&["CONFIG", "SET", "appendfsync", "everysec"]);
        node.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        within(Duration::from_secs(20), "it is noticed", async || {
            rest.metric("roomlog_durability_as_wanted").await == 0.0
        })
        .await;
        node.ask(&["CONFIG", "SET", "appendfsync", "always"]);
        node.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        within(Duration::from_secs(20), "it is noticed", async || {
            rest.metric("roomlog_durability_as_wanted").await == 1.0
        })
        .await;
    }
}

/// A node that starts while a primary is away serves the rooms of the others, and the rooms of that primary
/// once it is back.
#[tokio::test]
async fn a_node_starts_without_one_of_the_primaries() {
    let mut cluster = Cluster::start().await;
    let (here, away) = (rooms(&cluster, "here", 1, 1, false), rooms(&cluster, "away", 1, 1, true));
    cluster.nodes[1].stop();
    let (one, two) = (Server::on(&cluster.url()).await, Server::with(&cluster.url(), &NO_CHECKS).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut reader = Client::connect(&two, &everything("bob")).await;
    reader.join(&here[0]).await;
    writer.deliver(&here[0], &mut reader).await;

    cluster.nodes[1].start_again().await;
    let join = json!({ "op": "subscribe", "room": away[0] });
    eventually("its rooms can be joined", async || reader.request(join.clone()).await["op"] == "ok").await;
    reader.until("live").await;
    let publish = json!({ "op": "publish", "room": away[0], "data": 1 });
    eventually("and published to", async || writer.request(publish.clone()).await["op"] == "ok").await;
    reader.expect("message").await;
    writer.deliver(&away[0], &mut reader).await;
}
