//! Redis comes back, or is replaced, without its newest writes, and continues with a different history.
//! Readers miss nothing that is in the log, and are notified of everything that is gone.

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Server, admin, eventually, everything, ids, redis_and_servers, seqs, served_again,
};

fn rewound(after: &str, next: &str) -> Value {
    json!({ "op": "gap", "room": "room", "after": after, "next": next, "reason": "rewound" })
}

/// Subscribes, and returns the messages of the backlog.
async fn backlog(client: &mut Client, start: Value) -> Vec<Value> {
    client.subscribe("room", start).await;
    let mut frames = client.until("live").await;
    frames.retain(|frame| frame["op"] == "message");
    frames
}

/// The first batch after the loss is longer than the loss: its last messages have the `seq` that the reader
/// expects.
/// Rules: out-4.
#[tokio::test]
async fn a_loss_hidden_by_the_next_batch_is_reported() {
    let mut redis = Redis::on_port(&["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.join("room").await;
    writer.publish_many("room", 10, 10).await;
    redis.ask(&["SAVE"]);
    let lost = writer.publish_many("room", 20, 10).await;
    assert_eq!(seqs(&reader.messages(30).await), (1..=30).collect::<Vec<_>>());
    redis.stop();
    redis.start_again().await;

    let rest = Rest::new(&server, &everything("ann"));
    let batch: Vec<Value> = (0..30).map(|n| json!({ "room": "room", "data": n })).collect();
    let mut new = Vec::new();
    eventually("the batch is taken", async || {
        let answer = rest.post("/v1/messages", &json!(batch)).await;
        new = ids(answer.body.as_array().map_or(&[][..], Vec::as_slice));
        new.len() == 30
    })
    .await;
    assert_eq!(reader.next().await, rewound(lost.last().unwrap(), &new[0]));
    assert_eq!(ids(&reader.messages(30).await), new);
}

/// Two primaries accept messages at the same time. Then the first one gets the data of the second, as when it
/// comes back as a replica and takes over again. Its connections notice nothing.
/// Rules: out-4.
#[tokio::test]
async fn diverged_histories_are_detected_without_a_broken_connection() {
    let old = Redis::on_port(&["--appendonly", "no"]).await;
    let one = Server::on(&old.url()).await;
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut reader = Client::connect(&one, &everything("bob")).await;
    reader.subscribe("room", json!({ "durable": "phone" })).await;
    reader.until("live").await;
    let common = writer.publish_many("room", 3, 10).await;
    reader.messages(3).await;

    let new = old.replica().await;
    new.ask(&["REPLICAOF", "NO", "ONE"]);
    let two = Server::on(&new.url()).await;
    let lost = writer.publish_many("room", 5, 10).await;
    assert_eq!(ids(&reader.messages(5).await), lost);
    let kept = Client::connect(&two, &everything("cia")).await.publish_many("room", 5, 10).await;

    let port = new.port().to_string();
    old.ask(&["REPLICAOF", "127.0.0.1", &port]);
    eventually("it has what the other one has", async || {
        old.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
    })
    .await;
    old.ask(&["REPLICAOF", "NO", "ONE"]);

    assert_eq!(reader.next().await, rewound(&lost[4], &kept[0]));
    assert_eq!(ids(&reader.messages(5).await), kept);
    // Acknowledged messages of the lost history count up to the fork.
    reader.ok(json!({ "op": "ack", "room": "room", "id": lost[4] })).await;
    let subscriptions = Rest::new(&one, &admin()).get("/v1/rooms/room/subscriptions").await.with(200);
    assert!(
        subscriptions.to_string().contains(&format!("\"position\":\"{}\"", common[2])),
        "{subscriptions}"
    );

    for since in &lost {
        let mut resumed = Client::connect(&one, &everything("dan")).await;
        resumed.subscribe("room", json!({ "since": since })).await;
        assert_eq!(resumed.next().await, rewound(since, &kept[0]));
        assert_eq!(ids(&resumed.until("live").await), kept);
    }
    let mut resumed = Client::connect(&one, &everything("eve")).await;
    resumed.subscribe("room", json!({ "since": common[1] })).await;
    assert_eq!(ids(&resumed.until("live").await), [&common[2..], &kept[..]].concat());
}

/// Positions of many histories, one after the other.
/// Rules: out-4.
#[tokio::test]
async fn every_position_of_a_lost_history_is_recognised() {
    let mut redis = Redis::on_port(&["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for round in 1..=4 {
        let mut writer = Client::connect(&server, &everything("ann")).await;
        kept.extend(writer.publish_many("room", round, 10).await);
        redis.ask(&["SAVE"]);
        let fork = kept.len();
        lost.extend(writer.publish_many("room", 5 - round, 10).await.into_iter().map(|id| (id, fork)));
        redis.stop();
        redis.start_again().await;
        served_again(&server, "room").await;
    }
    for (since, fork) in lost {
        let mut resumed = Client::connect(&server, &everything("dan")).await;
        resumed.subscribe("room", json!({ "since": since })).await;
        assert_eq!(resumed.next().await["reason"], "rewound", "{since}");
        let got = ids(&resumed.until("live").await);
        assert!(got.ends_with(&kept[fork..]), "{since}: {got:?} of {kept:?}");
    }
}

#[tokio::test]
async fn a_node_that_missed_a_deletion_does_not_deliver_the_message() {
    let (redis, [one, two]) = redis_and_servers().await;
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut far = Client::connect(&two, &everything("bob")).await;
    far.join("room").await;
    let sent = writer.publish_many("room", 3, 10).await;
    far.messages(3).await;
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    Rest::new(&one, &admin()).delete(&format!("/v1/rooms/room/messages/{}", sent[1])).await.with(204);
    eventually("it is gone from memory too", async || {
        let mut late = Client::connect(&two, &everything("cia")).await;
        !ids(&backlog(&mut late, json!({ "last": 3 })).await).contains(&sent[1])
    })
    .await;
    // That remains so.
    let mut late = Client::connect(&two, &everything("cia")).await;
    assert_eq!(seqs(&backlog(&mut late, json!({ "since": "0" })).await), [1, 3]);
}
