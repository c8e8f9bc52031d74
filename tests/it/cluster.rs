//! The core paths on a Redis Cluster of three primaries, with rooms on all of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Client, Cluster, NO_CHECKS, Rest, Server, admin, eventually, everything, id_of, ids, seqs,
};
use crate::rest::listed;

const ROOMS: usize = 30;

fn rooms() -> impl Iterator<Item = String> {
    (0..ROOMS).map(|n| format!("room.{n}"))
}

#[tokio::test]
async fn rooms_in_all_slots_work_across_nodes() {
    let cluster = Cluster::start().await;
    let (one, two) = (Server::on(&cluster.url()).await, Server::with(&cluster.url(), &NO_CHECKS).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut near = Client::connect(&one, &everything("bob")).await;
    let mut far = Client::connect_msgpack(&two, &everything("cia")).await;
    for room in rooms() {
        near.join(&room).await;
        far.join(&room).await;
    }
    let mut published: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..5 {
        for room in rooms() {
            let id = writer.publish(&room, json!(round)).await;
            published.entry(room).or_default().push(id);
        }
    }
    for reader in [&mut near, &mut far] {
        let mut delivered: HashMap<String, Vec<String>> = HashMap::new();
        for message in reader.messages(5 * ROOMS).await {
            let room = message["room"].as_str().unwrap().to_owned();
            delivered.entry(room).or_default().push(id_of(&message));
        }
        assert_eq!(delivered, published);
    }
    assert!(cluster.sizes().iter().all(|keys| *keys > 0), "{:?}", cluster.sizes());

    // One room at a time, so that none is found because of another.
    for room in rooms() {
        let id = writer.publish(&room, json!("at once")).await;
        assert_eq!(id_of(&far.expect("message").await), id);
        published.entry(room).or_default().push(id);
    }
    near.messages(ROOMS).await;

    // A signal too, and history from the other node.
    for room in rooms() {
        near.ok(json!({ "op": "signal", "room": room, "type": "t", "data": 1 })).await;
        assert_eq!(far.expect("signal").await["room"], json!(room));
        let page = far.ok(json!({ "op": "history", "room": room, "after": "0" })).await;
        assert_eq!(ids(page["messages"].as_array().unwrap()), published[&room]);
    }
}

#[tokio::test]
async fn positions_batches_and_listings_span_the_cluster() {
    let cluster = Cluster::start().await;
    let (one, two) = (Server::on(&cluster.url()).await, Server::on(&cluster.url()).await);
    let rest = Rest::new(&one, &admin());
    let batch: Vec<Value> =
        (0..3).flat_map(|n| rooms().map(move |room| json!({ "room": room, "data": n }))).collect();
    let results = rest.post("/v1/messages", &json!(batch)).await.with(200);
    assert_eq!(seqs(results.as_array().unwrap()), [vec![1; ROOMS], vec![2; ROOMS], vec![3; ROOMS]].concat());
    assert_eq!(listed(&rest, "*").await, rooms().collect::<BTreeSet<_>>());

    let mut client = Client::connect(&one, &everything("bob")).await;
    for room in rooms() {
        client.subscribe(&room, json!({ "durable": "phone", "since": "0" })).await;
        let messages = client.until("live").await;
        assert_eq!(seqs(&messages), [1, 2, 3]);
        client.ok(json!({ "op": "ack", "room": room, "id": id_of(&messages[1]) })).await;
    }
    let mut other = Client::connect(&two, &everything("bob")).await;
    for room in rooms() {
        other.subscribe(&room, json!({ "durable": "phone" })).await;
        assert_eq!(seqs(&other.until("live").await), [3]);
        assert_eq!(client.expect("unsubscribed").await["code"], "replaced");
    }

    // A primary that lost the functions gets them back.
    for node in &cluster.nodes {
        node.ask(&["FUNCTION", "FLUSH"]);
    }
    for room in rooms() {
        client.publish(&room, json!("after")).await;
        other.expect("message").await;
    }
    rest.delete("/v1/rooms/room.0").await.with(204);
    assert_eq!(other.expect("unsubscribed").await["code"], "deleted");
    let pages = Rest::anonymous(&two);
    eventually("the cluster is ready", async || pages.get("/readyz").await.status == 200).await;
}

/// Slots move from one primary to another while their rooms are in use.
#[tokio::test]
async fn a_room_keeps_working_while_its_slot_moves() {
    let cluster = Cluster::start().await;
    let (one, two) = (Server::on(&cluster.url()).await, Server::on(&cluster.url()).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut reader = Client::connect(&two, &everything("bob")).await;
    reader.join("room").await;
    writer.publish_many("room", 10, 10).await;
    assert_eq!(reader.messages(10).await.len(), 10);

    cluster.move_slot_of("room").await;
    let publish = json!({ "op": "publish", "room": "room", "data": 1 });
    eventually("publishing goes on", async || writer.request(publish.clone()).await["op"] == "ok").await;
    let ids = writer.publish_many("room", 10, 10).await;
    let mut seen = Vec::new();
    while seen.last() != ids.last() {
        seen.push(id_of(&reader.expect("message").await));
    }
    // Eventually, the notifications arrive from the new primary.
    eventually("messages come at once again", async || {
        writer.deliver("room", &mut reader).await < Duration::from_millis(200)
    })
    .await;
    let expected = 11..11 + seen.len() as u64;
    assert_eq!(
        seen.iter().map(|id| crate::harness::seq(id)).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
}
