//! Acknowledgements are exact: `ok` only for positions that Redis holds, nothing lost at the end of a
//! subscription, and bounded queues while Redis is silent.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{
    Client, Redis, Reply, Rest, Server, eventually, everything, redis_and_server, served_again,
};

/// Enough rooms that each of a node's connections to Redis serves some.
const ROOMS: usize = 8;

/// A stall such as one slow disk sync causes: shorter than the time after which a node considers Redis dead.
const STALL: Duration = Duration::from_millis(400);

fn stored(redis: &Redis, room: &str, name: &str) -> Vec<String> {
    let value = redis.ask(&["HGET", &format!("rl:{{{room}}}:subs"), &format!("bob/{name}")]).text();
    value.split(' ').map(str::to_owned).collect()
}

fn position(redis: &Redis, room: &str) -> String {
    stored(redis, room, "phone").swap_remove(0)
}

/// Returns a server, its Redis, rooms with the id of their one message, and a client that has subscribed to
/// all of them.
async fn subscribed() -> (Redis, Server, Vec<(String, String)>, Client) {
    subscribed_on(Redis::start().await).await
}

async fn subscribed_on(redis: Redis) -> (Redis, Server, Vec<(String, String)>, Client) {
    let server = Server::on(&redis.url()).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        let room = format!("room{n}");
        let id = writer.publish(&room, json!(n)).await;
        client.subscribe(&room, json!({ "durable": "phone", "since": "0" })).await;
        client.until("live").await;
        rooms.push((room, id));
    }
    (redis, server, rooms, client)
}

/// Acknowledges in all rooms while Redis is frozen. The writes are in flight afterwards.
async fn acknowledge_frozen(redis: &Redis, client: &mut Client, rooms: &[(String, String)]) {
    let ack = |(room, id): &(String, String)| json!({ "op": "ack", "room": room, "id": id });
    // The acknowledgements that follow shortly after a write are written together.
    client.ok(json!({ "op": "ack", "room": rooms[0].0, "id": "1-0" })).await;
    redis.pause();
    client.send(rooms[1..].iter().map(ack).collect()).await;
    client.send(ack(&rooms[0])).await;
    client.settled().await;
    sleep(STALL / 4).await;
}

/// Rules: sub-10, code-9.
#[tokio::test]
async fn an_ack_of_a_replaced_holder_is_not_answered_ok() {
    let (redis, _server, rooms, mut client) = subscribed().await;
    let (room, id) = &rooms[0];
    // As another node's attach leaves it, before its notification arrives.
    let before = stored(&redis, room, "phone");
    let taken = format!("{} {} other/session/1", before[0], before[1]);
    redis.ask(&["HSET", &format!("rl:{{{room}}}:subs"), "bob/phone", &taken]);

    let ack = json!({ "op": "ack", "room": room, "id": id });
    assert_eq!(client.error(ack.clone()).await, "not_subscribed");
    assert_eq!(client.expect("unsubscribed").await["code"], "replaced");
    assert_eq!(position(&redis, room), before[0]);
    assert_eq!(client.error(ack).await, "not_subscribed");
}

/// Rules: sub-9.
#[tokio::test]
async fn unsubscribing_does_not_overtake_an_ack_that_is_being_written() {
    let (redis, _server, rooms, mut client) = subscribed().await;
    acknowledge_frozen(&redis, &mut client, &rooms).await;
    let mut asked = Vec::new();
    for (room, _) in &rooms {
        asked.push(client.ask(json!({ "op": "unsubscribe", "room": room })).await);
    }
    sleep(STALL).await;
    redis.resume();
    for reference in asked {
        assert_eq!(client.answer(reference).await["op"], "ok");
    }
    for (room, id) in &rooms {
        assert_eq!(stored(&redis, room, "phone")[2], "-");
        assert_eq!(position(&redis, room), *id);
        // The next subscription does not get the message again either.
        let answer = client.subscribe(room, json!({ "durable": "phone" })).await;
        assert_eq!(answer["position"], json!(id));
        assert_eq!(client.until("live").await, Vec::<Value>::new());
    }
}

/// Rules: sub-9.
#[tokio::test]
async fn waiting_acks_are_written_when_the_connection_breaks() {
    let (redis, _server, rooms, mut client) = subscribed().await;
    acknowledge_frozen(&redis, &mut client, &rooms).await;
    drop(client);
    sleep(STALL).await;
    redis.resume();
    for (room, id) in &rooms {
        eventually("it is given up", async || stored(&redis, room, "phone")[2] == "-").await;
        assert_eq!(position(&redis, room), *id, "{room}");
    }
}

/// Rules: sub-9, close-1012.
#[tokio::test]
async fn waiting_acks_are_written_when_the_server_shuts_down() {
    let (redis, mut server, rooms, mut client) = subscribed().await;
    acknowledge_frozen(&redis, &mut client, &rooms).await;
    let resumed = async {
        sleep(STALL).await;
        redis.resume();
    };
    let (status, (), closed) = tokio::join!(server.terminate(), resumed, client.closed());
    assert!(status.success(), "{status}");
    assert_eq!(closed, 1012);
    for (room, id) in &rooms {
        assert_eq!((position(&redis, room), &*stored(&redis, room, "phone")[2]), (id.clone(), "-"));
    }
}

/// Rules: sub-9.
#[tokio::test]
async fn acks_are_written_even_if_redis_was_unreachable_when_the_connection_ended() {
    let (mut redis, server, rooms, mut client) = subscribed_on(Redis::durable().await).await;
    redis.stop();
    let ack = |(room, id): &(String, String)| json!({ "op": "ack", "room": room, "id": id });
    client.send(rooms.iter().map(ack).collect()).await;
    client.settled().await;
    drop(client);
    let rest = Rest::anonymous(&server);
    eventually("the connection has ended", async || rest.connections("websocket").await == 0).await;
    redis.start_again().await;
    for (room, id) in &rooms {
        eventually("it is given up", async || stored(&redis, room, "phone")[2] == "-").await;
        assert_eq!(position(&redis, room), *id, "{room}");
    }
}

/// Rules: sub-9.
#[tokio::test]
async fn unsubscribing_reports_that_the_last_ack_may_not_be_stored() {
    let (redis, _server, rooms, mut client) = subscribed().await;
    let (room, id) = &rooms[0];
    redis.pause();
    client.send(json!({ "op": "ack", "room": room, "id": id })).await;
    assert_eq!(client.error(json!({ "op": "unsubscribe", "room": room })).await, "unavailable");
    // The subscription has ended. Since nothing was acknowledged, there is nothing to report.
    assert_eq!(client.error(json!({ "op": "unsubscribe", "room": room })).await, "not_subscribed");
    client.ok(json!({ "op": "unsubscribe", "room": rooms[1].0 })).await;
    redis.resume();
}

/// Rules: op-3, ws-4.
#[tokio::test]
async fn an_ack_before_deleting_the_subscription_is_answered_first() {
    let (redis, _server, rooms, mut client) = subscribed().await;
    let (room, id) = &rooms[0];
    let ack = client.ask(json!({ "op": "ack", "room": room, "id": id })).await;
    let forget = client.ask(json!({ "op": "unsubscribe", "room": room, "forget": true })).await;
    assert_eq!(client.answer(ack).await["op"], "ok");
    assert_eq!(client.answer(forget).await["op"], "ok");
    assert_eq!(redis.ask(&["HGET", &format!("rl:{{{room}}}:subs"), "bob/phone"]), Reply::Nil);
}

/// Returns the number of acknowledgements that the server has accepted.
async fn taken(rest: &Rest) -> u64 {
    let metrics = rest.get("/metrics").await.with(200);
    let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with("roomlog_acks_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn acks_that_wait_for_an_answer_are_bounded_while_redis_is_silent() {
    const LIMIT: u64 = 16;
    let redis = Redis::start().await;
    let limit = [("ROOMLOG_LIMITS__PUBLISHES_IN_FLIGHT", &*LIMIT.to_string())];
    let server = Server::with(&redis.url(), &limit).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    let id = client.publish("room", json!(1)).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    client.until("live").await;
    let rest = Rest::anonymous(&server);

    redis.pause();
    let mut asked = Vec::new();
    for _ in 0..200 {
        asked.push(client.ask(json!({ "op": "ack", "room": "room", "id": id })).await);
    }
    eventually("as many are taken as may wait", async || taken(&rest).await >= LIMIT).await;
    sleep(STALL).await;
    assert!(taken(&rest).await <= LIMIT + 1);
    redis.resume();
    for reference in asked {
        let answer = client.answer(reference).await;
        assert!(answer["op"] == "ok" || answer["code"] == "unavailable", "{answer}");
    }
    client.ok(json!({ "op": "ack", "room": "room", "id": id })).await;
    assert_eq!(position(&redis, "room"), id);
}

/// Rules: http-6, code-9.
#[tokio::test]
async fn over_http_a_holder_learns_that_it_was_replaced() {
    let (redis, server) = redis_and_server().await;
    let id = Client::connect(&server, &everything("ann")).await.publish("room", json!(1)).await;
    let bob = Rest::new(&server, &everything("bob"));
    let take = json!({ "durable": "phone", "since": "0" });
    let take = async || bob.post("/v1/rooms/room/subscriptions", &take).await.with(200);
    let ack = async |taken: &Value| {
        let ack = json!({ "durable": "phone", "holder": taken["holder"], "id": id });
        bob.post("/v1/rooms/room/acks", &ack).await
    };
    let (first, second) = (take().await, take().await);
    let before = position(&redis, "room");
    ack(&first).await.problem(409, "not_subscribed");
    assert_eq!(position(&redis, "room"), before);
    redis.pause();
    let (answer, ()) = tokio::join!(ack(&second), async {
        sleep(STALL).await;
        redis.resume();
    });
    answer.with(204);
    assert_eq!(position(&redis, "room"), id);
}

/// If two histories may have lost the newest id, the id alone does not tell which did, so it counts for
/// little. An older id that was acknowledged with it is in the log, and counts.
#[tokio::test]
async fn acknowledging_a_lost_message_loses_no_other_acknowledgement() {
    let mut redis = Redis::on_port(&["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    let rest = Rest::new(&server, &everything("ann"));
    let mut ids = writer.publish_many("room", 3, 10).await;
    redis.ask(&["SAVE"]);
    for lost in [0, 2] {
        if lost > 0 {
            served_again(&server, "room").await;
            client.subscribe("room", json!({ "durable": "phone", "since": ids[1] })).await;
            client.until("live").await;
            redis.ask(&["SAVE"]);
            ids.extend(writer.publish_many("room", lost, 10).await);
            client.messages(lost).await;
        }
        redis.stop();
        redis.start_again().await;
        eventually("messages are taken again", async || {
            let answer = rest.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await;
            if lost == 0 && answer.status == 201 {
                ids.push(answer.body["id"].as_str().unwrap().to_owned());
            }
            answer.status == 201
        })
        .await;
    }
    // Sent as one WebSocket message, so that they are written together.
    client
        .send(json!([
            { "op": "ack", "room": "room", "id": ids.last() },
            { "op": "ack", "ref": 77, "room": "room", "id": ids[3] },
        ]))
        .await;
    assert_eq!(client.answer(77).await["op"], "ok");
    assert_eq!(position(&redis, "room"), ids[3]);
}
