//! Signals: delivered to present subscribers, and never stored.

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Server, eventually, everything, ids, redis_and_server, redis_and_servers, token,
};

/// Rules: op-7, out-5.
#[tokio::test]
async fn a_signal_reaches_all_other_present_users_on_all_nodes() {
    let (redis, [one, two]) = redis_and_servers().await;
    let mut sender = Client::connect(&one, &everything("ann")).await;
    let mut same_user = Client::connect(&one, &everything("ann")).await;
    let mut near = Client::connect(&one, &everything("bob")).await;
    let mut far = Client::connect_msgpack(&two, &everything("cia")).await;
    for client in [&mut sender, &mut same_user, &mut near, &mut far] {
        client.join("room").await;
    }
    let data = json!({ "typing": true });
    sender.ok(json!({ "op": "signal", "room": "room", "type": "typing", "data": data })).await;
    let expected = json!({ "op": "signal", "room": "room", "from": "ann", "type": "typing", "data": data });
    for client in [&mut same_user, &mut near, &mut far] {
        assert_eq!(client.next().await, expected);
    }
    // A message as a fence: anything sent before it would have arrived.
    sender.publish("room", json!(1)).await;
    sender.expect("message").await;
    assert_eq!(redis.ask(&["XLEN", "rl:{room}:log"]).number(), 1, "only the message is stored");
    let page = near.ok(json!({ "op": "history", "room": "room", "after": "0" })).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}

/// Rules: op-7.
#[tokio::test]
async fn a_signal_can_be_sent_to_one_user() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let mut ann = Client::connect(&one, &everything("ann")).await;
    let mut bob = Client::connect(&one, &everything("bob")).await;
    let mut bob_elsewhere = Client::connect(&two, &everything("bob")).await;
    let mut cia = Client::connect(&two, &everything("cia")).await;
    for client in [&mut ann, &mut bob, &mut bob_elsewhere, &mut cia] {
        client.join("room").await;
    }
    ann.ok(json!({ "op": "signal", "room": "room", "type": "offer", "data": [1], "to": "bob" })).await;
    for client in [&mut bob, &mut bob_elsewhere] {
        let signal = client.expect("signal").await;
        assert_eq!((&signal["from"], &signal["data"]), (&json!("ann"), &json!([1])));
    }
    ann.publish("room", json!(1)).await;
    cia.expect("message").await;
}

/// Rules: op-7.
#[tokio::test]
async fn users_who_left_get_no_signal() {
    let (_redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let mut bob = Client::connect(&server, &everything("bob")).await;
    bob.join("room").await;
    bob.join("other").await;
    bob.ok(json!({ "op": "unsubscribe", "room": "room" })).await;
    ann.ok(json!({ "op": "signal", "room": "room", "type": "t", "data": 1 })).await;
    ann.publish("other", json!(1)).await;
    bob.expect("message").await;
    bob.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(bob.until("live").await, Vec::<Value>::new(), "nor later");
}

/// Rules: token-1, code-2.
#[tokio::test]
async fn invalid_signals_are_refused() {
    let (_redis, server) = redis_and_server().await;
    let mut reader = Client::connect(&server, &token("ann", json!({ "room": ["read"] }))).await;
    let signal = json!({ "op": "signal", "room": "room", "type": "t", "data": 1 });
    assert_eq!(reader.error(signal).await, "forbidden");
    let mut client = Client::connect(&server, &everything("bob")).await;
    for bad in [
        json!({ "op": "signal", "room": "room", "data": 1 }),
        json!({ "op": "signal", "room": "room", "type": "t" }),
        json!({ "op": "signal", "type": "t", "data": 1 }),
        json!({ "op": "signal", "room": "room", "type": "t", "data": 1, "to": 5 }),
    ] {
        assert_eq!(client.error(bad.clone()).await, "bad_request", "{bad}");
    }
}

/// Rules: pub-8.
#[tokio::test]
async fn large_signals_are_refused() {
    let (redis, server) = redis_and_server().await;
    let larger = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__MAX_SIGNAL", "10000")]).await;
    for (server, limit) in [(&server, 4096), (&larger, 10_000)] {
        let mut client = Client::connect(server, &everything("ann")).await;
        let rest = Rest::new(server, &everything("ann"));
        // The stored size: MessagePack has three bytes before a text of this length.
        for (bytes, fits) in [(limit - 3, true), (limit - 2, false)] {
            let signal = json!({ "op": "signal", "room": "room", "type": "t", "data": "x".repeat(bytes) });
            let answer = client.request(signal.clone()).await;
            assert_eq!(answer["code"], if fits { Value::Null } else { json!("too_large") }, "{bytes}");
            assert_eq!(rest.post(SIGNALS, &signal).await.status, if fits { 204 } else { 413 });
        }
    }
}

const SIGNALS: &str = "/v1/rooms/room/signals";

/// Rules: http-3, http-4, http-10, http-11, sse-4, sub-12.
#[tokio::test]
async fn over_http_signals_are_posted_and_arrive_as_events() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let mut socket = Client::connect(&one, &everything("cia")).await;
    socket.join("room").await;
    let [ann, bob] =
        [(&one, "ann"), (&two, "bob")].map(|(server, user)| Rest::new(server, &everything(user)));
    let session = "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11";
    let path = "/v1/rooms/room/events?signals=true";
    let mut own = ann.events(&format!("{path}&session={session}"), &[]).await.unwrap();
    let mut near = ann.events(path, &[]).await.unwrap();
    let mut far = bob.events(path, &[]).await.unwrap();
    let mut without = bob.events("/v1/rooms/room/events", &[]).await.unwrap();
    for events in [&mut own, &mut near, &mut far, &mut without] {
        // The second comment means that the stream is live.
        events.comment().await;
        events.comment().await;
    }

    let body = json!({ "type": "typing", "data": { "on": true } });
    let sent = ann.post(&format!("{SIGNALS}?session={session}"), &body).await;
    assert_eq!(sent.with(204), Value::Null);
    let expected =
        json!({ "op": "signal", "room": "room", "from": "ann", "type": "typing", "data": { "on": true } });
    assert_eq!(socket.next().await, expected);
    for events in [&mut near, &mut far] {
        let event = events.next().await;
        assert_eq!((event.name.as_deref(), event.id, event.data), (Some("signal"), None, expected.clone()));
    }
    // One for a single user, and in MessagePack.
    let body = json!({ "type": "offer", "data": [1], "to": "bob" });
    ann.post_msgpack(SIGNALS, &body).await.with(204);
    assert_eq!(far.next().await.data["data"], json!([1]));
    // A message as a fence: anything sent before it would have arrived. A message whose type is `signal` has
    // an id.
    let frame = json!({ "op": "publish", "room": "room", "type": "signal", "data": 1 });
    let id = socket.ok(frame).await["id"].clone();
    for events in [&mut own, &mut near, &mut far, &mut without] {
        let event = events.next().await;
        assert_eq!((event.name.as_deref(), json!(event.id)), (Some("signal"), id.clone()), "{event:?}");
    }
}

/// Rules: http-3, http-11, http-12, pub-8.
#[tokio::test]
async fn over_http_invalid_signals_and_excessive_rates_are_refused() {
    let redis = Redis::start().await;
    let limits = [("ROOMLOG_LIMITS__MAX_MESSAGE", "1000"), ("ROOMLOG_LIMITS__PUBLISH_RATE", "5")];
    let server = Server::with(&redis.url(), &limits).await;
    let [ann, bob] = ["ann", "bob"].map(|user| Rest::new(&server, &everything(user)));
    for bad in [
        json!({ "data": 1 }),
        json!({ "type": "t" }),
        json!({ "type": "", "data": 1 }),
        json!({ "type": "t", "data": 1, "to": 5 }),
        json!([{ "type": "t", "data": 1 }]),
    ] {
        ann.post(SIGNALS, &bad).await.problem(400, "bad_request");
    }
    let signal = json!({ "type": "t", "data": 1 });
    ann.post(&format!("{SIGNALS}?session=x"), &signal).await.problem(400, "bad_request");
    let huge = json!({ "type": "t", "data": "x".repeat(2000) });
    ann.post(SIGNALS, &huge).await.problem(413, "too_large");
    let reader = Rest::new(&server, &token("cia", json!({ "room": ["read"] })));
    reader.post(SIGNALS, &signal).await.problem(403, "forbidden");

    let answers = futures_util::future::join_all((0..50).map(|_| ann.post(SIGNALS, &signal))).await;
    let refused = answers.into_iter().find(|answer| answer.status != 204).unwrap();
    assert!(refused.body["retry_after_ms"].is_u64(), "{refused:?}");
    refused.problem(429, "rate_limited");
    bob.post(SIGNALS, &signal).await.with(204);
}

/// Rules: http-10.
#[tokio::test]
async fn long_polling_carries_no_signals() {
    let (_redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let bob = Rest::new(&server, &everything("bob"));
    let send = async {
        eventually("the poll waits", async || bob.connections("poll").await == 1).await;
        ann.ok(json!({ "op": "signal", "room": "room", "type": "t", "data": 1 })).await;
        ann.publish("room", json!(2)).await
    };
    let (page, id) = tokio::join!(bob.get("/v1/rooms/room/messages?wait=60"), send);
    assert_eq!(ids(page.with(200)["messages"].as_array().unwrap()), [id]);
}
