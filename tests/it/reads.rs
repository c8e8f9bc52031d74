//! Read positions and unread counts.

use serde_json::{Value, json};

use crate::harness::{
    Client, Rest, Server, eventually, everything, redis_and_server, redis_and_servers, token,
};

/// Returns the entries of these rooms for the owner of a token.
async fn mine(server: &Server, token: &str, rooms: &str) -> Vec<Value> {
    let answer = Rest::new(server, token).get(&format!("/v1/me/rooms?rooms={rooms}")).await.with(200);
    answer["rooms"].as_array().unwrap().clone()
}

async fn unread(server: &Server, token: &str) -> u64 {
    mine(server, token, "room").await[0]["unread"].as_u64().unwrap()
}

/// Rules: op-14, api-17, api-18, read-1, read-3.
#[tokio::test]
async fn all_devices_of_a_user_share_one_position() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let mut ann = Client::connect(&one, &everything("ann")).await;
    let ids = ann.publish_many("room", 10, 10).await;
    assert_eq!(unread(&two, &everything("bob")).await, 10, "nothing is read yet");

    let mut phone = Client::connect(&one, &everything("bob")).await;
    phone.ok(json!({ "op": "read", "room": "room", "id": ids[3] })).await;
    let expected = json!({ "room": "room", "head": ids[9], "read": ids[3], "unread": 6 });
    assert_eq!(mine(&two, &everything("bob"), "room").await, [expected]);

    let rest = Rest::new(&two, &everything("bob"));
    rest.post("/v1/rooms/room/read", &json!({ "id": ids[7] })).await.with(204);
    assert_eq!(unread(&one, &everything("bob")).await, 2);
    // An older position of another device changes nothing.
    phone.ok(json!({ "op": "read", "room": "room", "id": ids[5] })).await;
    assert_eq!(unread(&one, &everything("bob")).await, 2);
    assert_eq!(unread(&one, &everything("ann")).await, 10, "another user's position");

    // Without a `ref`, it is written all the same.
    phone.send(json!({ "op": "read", "room": "room", "id": ids[9] })).await;
    eventually("the last read is written", async || unread(&two, &everything("bob")).await == 0).await;
}

/// Rules: read-3, read-4.
#[tokio::test]
async fn deleted_and_expired_messages_are_not_unread() {
    let (redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let ids = ann.publish_many("room", 10, 10).await;
    ann.ok(json!({ "op": "read", "room": "room", "id": ids[1] })).await;
    let rest = Rest::new(&server, &token("root", json!({ "room": ["manage"] })));
    for id in [&ids[0], &ids[4], &ids[5]] {
        rest.delete(&format!("/v1/rooms/room/messages/{id}")).await.with(204);
    }
    assert_eq!(unread(&server, &everything("ann")).await, 6, "eight, without two deleted ones");
    assert_eq!(unread(&server, &everything("bob")).await, 7);
    redis.ask(&["XTRIM", "rl:{room}:log", "MINID", "=", &ids[6]]);
    assert_eq!(unread(&server, &everything("ann")).await, 4, "the others are gone");
    rest.delete("/v1/rooms/room").await.with(204);
    let gone = json!({ "room": "room", "head": "0-0", "read": null, "unread": 0 });
    assert_eq!(mine(&server, &everything("ann"), "room").await, [gone]);
    assert_eq!(redis.ask(&["KEYS", "*{room}*"]).list(), [], "nothing of it is left");
}

/// Rules: read-5.
#[tokio::test]
async fn a_connection_that_reads_also_reads_its_own_messages() {
    let (_redis, server) = redis_and_server().await;
    let mut bob = Client::connect(&server, &everything("bob")).await;
    bob.publish("room", json!(1)).await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let own = ann.publish("room", json!(2)).await;
    assert_eq!(unread(&server, &everything("ann")).await, 2, "it has not used read positions");
    ann.ok(json!({ "op": "read", "room": "room", "id": own })).await;
    bob.publish("room", json!(3)).await;
    assert_eq!(unread(&server, &everything("ann")).await, 1);
    ann.publish("room", json!(4)).await;
    eventually("its own message is read", async || unread(&server, &everything("ann")).await == 0).await;
}

/// Rules: read-2, read-6, code-2.
#[tokio::test]
async fn invalid_reads_are_refused_and_change_nothing() {
    let (redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let id = ann.publish("room", json!(1)).await;
    let reads = [
        (json!({ "op": "read", "room": "room", "id": "9999999999999-9" }), "bad_request"),
        (json!({ "op": "read", "room": "room", "id": "x" }), "bad_request"),
        (json!({ "op": "read", "room": "room" }), "bad_request"),
        (json!({ "op": "read", "room": "empty", "id": id }), "bad_request"),
        (json!({ "op": "read", "room": "@bob", "id": id }), "forbidden"),
    ];
    for (read, code) in reads {
        assert_eq!(ann.error(read).await, code);
    }
    let writer = Rest::new(&server, &token("wes", json!({ "room": ["write"] })));
    writer.post("/v1/rooms/room/read", &json!({ "id": id })).await.problem(403, "forbidden");
    let forbidden = &mine(&server, &token("wes", json!({ "room": ["write"] })), "room").await[0];
    assert_eq!((&forbidden["room"], &forbidden["error"]["code"]), (&json!("room"), &json!("forbidden")));

    let rest = Rest::new(&server, &everything("ann"));
    let many: Vec<String> = (0..501).map(|n| format!("room.{n}")).collect();
    rest.get(&format!("/v1/me/rooms?rooms={}", many.join(","))).await.problem(429, "too_many");
    rest.get(&format!("/v1/me/rooms?rooms={}", many[1..].join(","))).await.with(200);
    rest.get("/v1/me/rooms?rooms=a,,b").await.problem(400, "bad_request");
    rest.get("/v1/me/rooms").await.problem(400, "bad_request");
    assert_eq!(redis.ask(&["EXISTS", "rl:{room}:reads"]).number(), 0);
}

/// Rules: read-1.
#[tokio::test]
async fn positions_are_written_together_and_before_a_node_stops() {
    let (redis, mut server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let all = ann.publish_many("room", 200, 50).await;
    let before = redis.calls("fcall");
    for id in &all {
        ann.send(json!({ "op": "read", "room": "room", "id": id })).await;
    }
    ann.request(json!({ "op": "ping" })).await;
    server.terminate().await;
    let stored = redis.ask(&["HGET", "rl:{room}:reads", "ann"]).text();
    assert_eq!(stored, all[199], "the newest position");
    let cost = redis.calls("fcall") - before;
    assert!(cost < 100, "{cost} calls for 200 positions");
}
