//! Signals: for those present, never stored.

use serde_json::{Value, json};

use crate::harness::{Client, Redis, Server, everything, token};

#[tokio::test]
async fn a_signal_reaches_the_others_who_are_present_on_all_nodes() {
    let redis = Redis::start().await;
    let (one, two) = (Server::on(&redis.url()).await, Server::on(&redis.url()).await);
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
    // A message is a fence: what was sent before it would have come.
    sender.publish("room", json!(1)).await;
    sender.expect("message").await;
    assert_eq!(redis.ask(&["XLEN", "rl:{room}:log"]).number(), 1, "only the message is stored");
    let page = near.ok(json!({ "op": "history", "room": "room", "after": "0" })).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_signal_may_be_for_one_user() {
    let redis = Redis::start().await;
    let (one, two) = (Server::on(&redis.url()).await, Server::on(&redis.url()).await);
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

#[tokio::test]
async fn those_who_left_get_no_signal() {
    let redis = Redis::start().await;
    let server = Server::on(&redis.url()).await;
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

#[tokio::test]
async fn what_is_no_signal_is_refused() {
    let redis = Redis::start().await;
    let server = Server::on(&redis.url()).await;
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
