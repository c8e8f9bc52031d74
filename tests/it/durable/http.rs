//! Durable subscriptions of clients over HTTP: taken, acknowledged and lost as over a connection.

use serde_json::{Value, json};

use super::{durable, group, position, room_with};
use crate::harness::{
    Answer, Client, Event, Redis, Rest, Server, admin, eventually, everything, seqs, token,
};

const TAKE: &str = "/v1/rooms/room/subscriptions";
const ACKS: &str = "/v1/rooms/room/acks";

async fn take(rest: &Rest, fields: Value) -> Value {
    rest.post(TAKE, &fields).await.with(200)
}

async fn ack(rest: &Rest, taken: &Value, id: &str) -> Answer {
    rest.post(ACKS, &json!({ "durable": "phone", "holder": taken["holder"], "id": id })).await
}

/// Returns the path of the events for the holder of a subscription.
fn events_of(taken: &Value) -> String {
    let (holder, position) = (taken["holder"].as_str().unwrap(), taken["position"].as_str().unwrap());
    format!("/v1/rooms/room/events?since={position}&durable=phone&holder={holder}")
}

fn says_replaced(event: &Event) -> bool {
    (event.name.as_deref(), &event.data["code"], &event.id)
        == (Some("unsubscribed"), &json!("replaced"), &None)
}

/// Rules: http-2, http-5, http-7, sub-12.
#[tokio::test]
async fn the_position_moves_by_acknowledging_and_never_back() {
    let (redis, server, ids) = room_with(5).await;
    let bob = Rest::new(&server, &everything("bob"));
    let taken = take(&bob, json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(taken["head"], json!(ids[4]));
    assert_eq!(seqs(&bob.page("room", taken["position"].as_str().unwrap()).await), [1, 2, 3, 4, 5]);
    for (id, stands) in [(&ids[2], &ids[2]), (&ids[0], &ids[2]), (&ids[3], &ids[3])] {
        assert_eq!(ack(&bob, &taken, id).await.with(204), Value::Null);
        assert_eq!(position(&redis, "bob/phone"), *stands);
    }
    assert_eq!(group(&redis, "bob/phone").unwrap().field("lag").number(), 1);
    let beyond = ids[4].replace("-5", "-6");
    ack(&bob, &taken, &beyond).await.problem(400, "bad_request");

    // It exists for a connection too, at its current position. `last` has an effect the first time only.
    let again = take(&bob, json!({ "durable": "phone", "last": 5 })).await;
    assert_eq!(again["position"], json!(ids[3]));
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", durable()).await;
    assert_eq!(seqs(&client.until("live").await), [5]);
}

/// Rules: http-1, http-5.
#[tokio::test]
async fn the_first_use_sets_the_start() {
    let (_redis, server, ids) = room_with(4).await;
    let bob = Rest::new(&server, &everything("bob"));
    for (fields, expected) in [
        (json!({ "durable": "a" }), &ids[3]),
        (json!({ "durable": "b", "last": 1 }), &ids[2]),
        (json!({ "durable": "b", "since": ids[0] }), &ids[0]),
        (json!({ "durable": "b", "since": null, "last": null }), &ids[0]),
        (json!({ "durable": "b", "since": "$" }), &ids[3]),
    ] {
        assert_eq!(take(&bob, fields.clone()).await["position"], json!(expected), "{fields}");
    }
    let packed = bob.post_msgpack(TAKE, &json!({ "durable": "c", "last": 2 })).await.with(200);
    assert_eq!(packed["position"], json!(ids[1]));
    let ack = json!({ "durable": "c", "holder": packed["holder"], "id": ids[2] });
    bob.post_msgpack(ACKS, &ack).await.with(204);
    let listed = Rest::new(&server, &admin()).get(TAKE).await.with(200);
    assert_eq!(listed[2]["position"], json!(ids[2]));
}

/// Rules: http-5, http-6, http-8.
#[tokio::test]
async fn the_newest_holder_takes_over_with_or_without_a_connection() {
    let (redis, server, ids) = room_with(3).await;
    let other = Server::on(&redis.url()).await;
    let [near, far] = [&server, &other].map(|server| Rest::new(server, &everything("bob")));
    let mut socket = Client::connect(&server, &everything("bob")).await;
    socket.subscribe("room", durable()).await;
    socket.until("live").await;

    // Taken from a connection, on another node.
    let first = take(&far, json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(socket.expect("unsubscribed").await["code"], "replaced");
    ack(&near, &first, &ids[0]).await.with(204);
    // Taken from a client without a connection.
    let mut events = near.events(&events_of(&first), &[]).await.unwrap();
    assert_eq!(events.take(3).await[2].id.as_ref(), Some(&ids[2]));
    let second = take(&near, durable()).await;
    assert_eq!(second["position"], json!(ids[0]));
    assert_ne!(first["holder"], second["holder"]);
    assert!(says_replaced(&events.next().await));
    events.ended().await;
    let lost = ack(&near, &first, &ids[2]).await;
    assert!(lost.body["detail"].as_str().unwrap().contains("took it over"), "{lost:?}");
    lost.problem(409, "not_subscribed");
    assert_eq!(position(&redis, "bob/phone"), ids[0]);
    // A stream that comes too late is refused.
    near.events(&events_of(&first), &[]).await.unwrap_err().problem(409, "not_subscribed");

    // Taken back by a connection.
    let mut events = far.events(&events_of(&second), &[]).await.unwrap();
    let mut socket = Client::connect(&server, &everything("bob")).await;
    socket.subscribe("room", durable()).await;
    assert_eq!(seqs(&socket.until("live").await), [2, 3]);
    assert_eq!(events.take(2).await[1].id.as_ref(), Some(&ids[2]));
    assert!(says_replaced(&events.next().await));
    // An acknowledgement of the old holder does not count for the current one.
    socket.send(json!({ "op": "ack", "room": "room", "id": ids[1] })).await;
    socket.settled().await;
    ack(&near, &second, &ids[2]).await.problem(409, "not_subscribed");
    eventually("the holder's word is written", async || position(&redis, "bob/phone") == ids[1]).await;
    socket.ok(json!({ "op": "ack", "room": "room", "id": ids[2] })).await;
}

/// Rules: http-6, http-9.
#[tokio::test]
async fn a_holder_without_a_connection_is_not_listed_as_connected() {
    let (_redis, server, ids) = room_with(2).await;
    let (bob, manager) = (Rest::new(&server, &everything("bob")), Rest::new(&server, &admin()));
    let taken = take(&bob, json!({ "durable": "phone", "since": ids[0] })).await;
    let listed =
        json!([{ "user": "bob", "name": "phone", "position": ids[0], "lag": 1, "connected": false }]);
    assert_eq!(manager.get(TAKE).await.with(200), listed);

    manager.delete(&format!("{TAKE}/bob/phone")).await.with(204);
    ack(&bob, &taken, &ids[1]).await.problem(409, "not_subscribed");
    assert_eq!(manager.get(TAKE).await.with(200), json!([]));
}

/// Rules: http-1, http-2.
#[tokio::test]
async fn invalid_and_forbidden_requests_are_refused() {
    let (redis, server, ids) = room_with(2).await;
    let bob = Rest::new(&server, &everything("bob"));
    for bad in [
        json!({}),
        json!([durable()]),
        json!({ "durable": 5 }),
        json!({ "durable": "a/b" }),
        json!({ "durable": "phone", "since": "x" }),
        json!({ "durable": "phone", "last": 1001 }),
        json!({ "durable": "phone", "last": 1, "since": "0" }),
    ] {
        bob.post(TAKE, &bad).await.problem(400, "bad_request");
    }
    assert_eq!(group(&redis, "bob/phone"), None, "nothing was taken");

    let taken = take(&bob, durable()).await;
    let fields = |holder: &Value, id: &str| json!({ "durable": "phone", "holder": holder, "id": id });
    let stored = redis.ask(&["HGET", "rl:{room}:subs", "bob/phone"]).text();
    for bad in [
        json!({ "durable": "phone", "holder": taken["holder"] }),
        json!({ "durable": "phone", "id": ids[0] }),
        fields(&taken["holder"], "x"),
        // The value in Redis if nobody holds it, or a connection does.
        fields(&json!("-"), &ids[1]),
        fields(&json!("node/session/0"), &ids[1]),
    ] {
        bob.post(ACKS, &bad).await.problem(400, "bad_request");
    }
    for query in ["durable=phone", "holder=x", "durable=phone&holder=x", "signals=maybe"] {
        let refused = bob.events(&format!("/v1/rooms/room/events?{query}"), &[]).await;
        refused.unwrap_err().problem(400, "bad_request");
    }
    assert_eq!(redis.ask(&["HGET", "rl:{room}:subs", "bob/phone"]).text(), stored);

    // A holder of another user is unknown here.
    let cia = Rest::new(&server, &everything("cia"));
    cia.post(ACKS, &fields(&taken["holder"], &ids[1])).await.problem(409, "not_subscribed");
    let writer = Rest::new(&server, &token("bob", json!({ "room": ["write"] })));
    writer.post(TAKE, &durable()).await.problem(403, "forbidden");
    writer.post(ACKS, &fields(&taken["holder"], &ids[1])).await.problem(403, "forbidden");
    Rest::anonymous(&server).post(TAKE, &durable()).await.problem(401, "unauthenticated");
}

/// Rules: http-7.
#[tokio::test]
async fn acknowledgements_of_many_subscriptions_are_written_together() {
    let (redis, server, ids) = room_with(2).await;
    let rests: Vec<Rest> = (0..20).map(|n| Rest::new(&server, &everything(&format!("user{n}")))).collect();
    let mut taken = Vec::new();
    for rest in &rests {
        taken.push(take(rest, json!({ "durable": "phone", "since": "0" })).await);
    }
    ack(&rests[0], &taken[0], &ids[0]).await.with(204);
    redis.ask(&["CONFIG", "RESETSTAT"]);
    let acks = rests.iter().zip(&taken).map(|(rest, taken)| ack(rest, taken, &ids[1]));
    for answer in futures_util::future::join_all(acks).await {
        answer.with(204);
    }
    let calls = redis.calls("fcall");
    // The node's own probes are among the calls.
    assert!((1..10).contains(&calls), "{calls} calls for 20 acknowledgements");
    assert_eq!(position(&redis, "user7/phone"), ids[1]);
}

/// Rules: http-2.
#[tokio::test]
async fn acknowledgements_are_written_when_the_server_shuts_down() {
    let (redis, mut server, ids) = room_with(3).await;
    let bob = Rest::new(&server, &everything("bob"));
    let taken = take(&bob, json!({ "durable": "phone", "since": "0" })).await;
    ack(&bob, &taken, &ids[0]).await.with(204);
    // The second one waits for a quarter of a second, unless the server ends.
    let (last, status) = tokio::join!(ack(&bob, &taken, &ids[2]), async {
        eventually("it waits", async || {
            let metrics = bob.get("/metrics").await.with(200);
            metrics.as_str().unwrap().contains("roomlog_acks_total 2")
        })
        .await;
        server.terminate().await
    });
    assert!(status.success(), "{status}");
    last.with(204);
    assert_eq!(position(&redis, "bob/phone"), ids[2]);
}

/// Rules: http-8, http-9.
#[tokio::test]
async fn a_holder_stays_in_use_while_its_stream_is_open() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_RETENTION__INTERVAL", "200ms"), ("ROOMLOG_RETENTION__SUBSCRIPTION_TTL", "3s")];
    let server = Server::with(&redis.url(), &env).await;
    let (bob, manager) = (Rest::new(&server, &everything("bob")), Rest::new(&server, &admin()));
    bob.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await.with(201);
    let read = take(&bob, durable()).await;
    let _events = bob.events(&events_of(&read), &[]).await.unwrap();
    // Taken after the other one, so it would expire after it.
    take(&bob, json!({ "durable": "left" })).await;
    let names = async || {
        let listed = manager.get(TAKE).await.with(200);
        listed.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>()
    };
    eventually("the one without a stream expires", async || names().await.len() < 2).await;
    assert_eq!(names().await, [json!("phone")]);
}
