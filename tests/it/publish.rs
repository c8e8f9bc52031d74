//! Publishing: ids, keys, limits, permissions, and data of every kind.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Client, Redis, Rest, Server, binary, eventually, everything, id_of, ids, redis_and_server,
    redis_and_servers, seq, seqs, to_msgpack, token,
};

const KEY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

/// Rules: word-2.
#[tokio::test]
async fn ids_count_each_rooms_messages_without_a_hole() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for room in ["one", "two"] {
        let mut last = (0, 0);
        for expected in 1..=5 {
            let id = client.publish(room, json!(expected)).await;
            let (ms, seq) = id.split_once('-').unwrap();
            let id: (u64, u64) = (ms.parse().unwrap(), seq.parse().unwrap());
            assert_eq!(id.1, expected);
            assert!(id.0 >= last.0 && id.0 > 1_700_000_000_000, "{id:?} after {last:?}");
            last = id;
        }
    }
}

/// Rules: word-3, word-4, op-4, out-2.
#[tokio::test]
async fn a_message_reaches_subscribers_unchanged() {
    let (_redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let mut bob = Client::connect(&server, &everything("bob")).await;
    bob.join("room").await;
    let data = json!({ "text": "hällo ✓", "list": [1, -2, 3.5, null, true, { "": {} }] });
    let frame = json!({ "op": "publish", "room": "room", "data": data, "type": "note", "key": KEY });
    let id = id_of(&ann.ok(frame).await);
    assert_eq!(
        bob.next().await,
        json!({ "op": "message", "room": "room", "id": id, "key": KEY, "from": "ann", "type": "note", "data": data })
    );

    ann.publish("room", Value::Null).await;
    let message = bob.next().await;
    assert_eq!((&message["type"], &message["data"]), (&json!("message"), &Value::Null));
    assert!(uuid::Uuid::try_parse(message["key"].as_str().unwrap()).is_ok(), "the server makes a key");
}

/// Rules: word-4, op-4, pub-3, pub-5.
#[tokio::test]
async fn a_key_stores_a_message_once() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let mut ann = Client::connect(&one, &everything("ann")).await;
    let mut again = Client::connect(&two, &everything("ann")).await;
    let publish = |data| json!({ "op": "publish", "room": "room", "data": data, "key": KEY });

    let first = ann.ok(publish(1)).await;
    assert_eq!(first.get("duplicate"), None);
    for client in [&mut ann, &mut again] {
        let answer = client.ok(publish(2)).await;
        assert_eq!((&answer["id"], &answer["duplicate"]), (&first["id"], &json!(true)));
    }
    // Keys belong to one room.
    let elsewhere = ann.ok(json!({ "op": "publish", "room": "other", "data": 1, "key": KEY })).await;
    assert_eq!(elsewhere.get("duplicate"), None);

    let page = again.ok(json!({ "op": "history", "room": "room" })).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
    assert_eq!(page["messages"][0]["data"], 1);
    let next = ann.publish("room", json!(3)).await;
    assert_eq!(seq(&next), 2, "a duplicate takes no number");
}

/// Rules: word-4.
#[tokio::test]
async fn concurrent_publishes_with_the_same_key_are_stored_once() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let frame =
        |reference| json!({ "op": "publish", "ref": reference, "room": "room", "data": 1, "key": KEY });
    client.send((101..=120).map(frame).collect()).await;
    let mut duplicates = 0;
    for reference in 101..=120 {
        let answer = client.answer(reference).await;
        assert_eq!((&answer["op"], seq(&id_of(&answer))), (&json!("ok"), 1));
        duplicates += usize::from(answer["duplicate"] == true);
    }
    assert_eq!(duplicates, 19);
}

/// Rules: pub-6.
#[tokio::test]
async fn over_http_the_key_is_in_the_header_or_the_body() {
    let (_redis, server) = redis_and_server().await;
    let (rest, path) = (Rest::new(&server, &everything("ann")), "/v1/rooms/room/messages");
    let body = json!({ "data": 1, "key": KEY });
    let first = rest.post(path, &body).await.with(201);
    assert_eq!(first["key"], KEY);
    for key in [KEY, &format!("\"{KEY}\"")] {
        let again = rest.post_with_key(path, key, &json!({ "data": 2 })).await.with(200);
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)), "{key}");
    }
    let header = "9b2e0b9d-6a52-4f0e-9d3a-6d3c1f0c7a11";
    let second = rest.post_with_key(path, header, &body).await.with(201);
    assert_eq!(second["key"], header, "the header takes precedence");
}

/// Rules: ws-3, ws-4.
#[tokio::test]
async fn messages_of_one_connection_keep_their_order() {
    let (_redis, server) = redis_and_server().await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.join("room").await;
    for number in 0..300 {
        writer.send(json!({ "op": "publish", "room": "room", "data": number })).await;
    }
    let messages = reader.messages(300).await;
    assert_eq!(seqs(&messages), (1..=300).collect::<Vec<_>>());
    let data: Vec<u64> = messages.iter().map(|message| message["data"].as_u64().unwrap()).collect();
    assert_eq!(data, (0..300).collect::<Vec<_>>());
    assert_eq!(writer.settled().await, Vec::<Value>::new(), "without a ref, only failures are answered");
}

/// Rules: pub-2.
#[tokio::test]
async fn publishes_to_one_room_are_answered_in_order() {
    const ROOMS: usize = 3;
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for n in 0..300 {
        let room = format!("room{}", n % ROOMS);
        client.send(json!({ "op": "publish", "ref": n, "room": room, "data": n })).await;
    }
    let mut answered = [const { Vec::new() }; ROOMS];
    for _ in 0..300 {
        let reference = client.expect("ok").await["ref"].as_u64().unwrap();
        answered[reference as usize % ROOMS].push(reference);
    }
    assert!(answered.iter().all(|refs| refs.len() == 100 && refs.is_sorted()), "{answered:?}");
}

/// Rules: word-2.
#[tokio::test]
async fn many_publishers_on_two_nodes_share_one_count() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let mut reader = Client::connect(&one, &everything("reader")).await;
    reader.join("room").await;
    let mut a = Client::connect(&one, &everything("a")).await;
    let mut b = Client::connect(&two, &everything("b")).await;
    let mut c = Client::connect(&two, &everything("c")).await;
    let (a, b, c) = tokio::join!(
        a.publish_many("room", 200, 10),
        b.publish_many("room", 200, 10),
        c.publish_many("room", 200, 10)
    );
    let messages = reader.messages(600).await;
    assert_eq!(seqs(&messages), (1..=600).collect::<Vec<_>>());
    let mut confirmed = [a, b, c].concat();
    confirmed.sort_by_key(|id| seq(id));
    assert_eq!(ids(&messages), confirmed);
}

/// Rules: pub-8, code-11.
#[tokio::test]
async fn the_stored_size_of_data_is_limited() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__MAX_MESSAGE", "1000")]).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    // A text of this length takes three more bytes in MessagePack.
    client.publish("room", json!("x".repeat(997))).await;
    let larger = json!({ "op": "publish", "room": "room", "data": "x".repeat(998) });
    assert_eq!(client.error(larger).await, "too_large");
    let signal = json!({ "op": "signal", "room": "room", "type": "t", "data": "x".repeat(998) });
    assert_eq!(client.error(signal).await, "too_large");
    client.publish("room", json!(1)).await;
}

/// Rules: word-1, word-4, out-1, code-2.
#[tokio::test]
async fn missing_fields_of_a_publish_are_named() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for (frame, field) in [
        (json!({ "op": "publish", "room": "room" }), "data"),
        (json!({ "op": "publish", "data": 1 }), "room"),
        (json!({ "op": "publish", "room": "a room", "data": 1 }), "room"),
        (json!({ "op": "publish", "room": "x".repeat(129), "data": 1 }), "room"),
        (json!({ "op": "publish", "room": "room", "data": 1, "key": "k" }), "key"),
        (json!({ "op": "publish", "room": "room", "data": 1, "key": 7 }), "key"),
        (json!({ "op": "publish", "room": "room", "data": 1, "type": 7 }), "type"),
        (json!({ "op": "publish", "room": "room", "data": 1, "type": "a\ndata: b" }), "type"),
    ] {
        let answer = client.request(frame.clone()).await;
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("bad_request")), "{frame}");
        assert!(answer["message"].as_str().unwrap().contains(field), "{answer}");
    }
    assert_eq!(redis.ask(&["EXISTS", "rl:{room}:log"]).number(), 0);
}

/// Rules: frame-3.
#[tokio::test]
async fn a_type_is_1_to_64_bytes_of_text_without_control_characters() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let longest = "ä".repeat(32);
    for op in ["publish", "signal"] {
        let frame = |name: &str| json!({ "op": op, "room": "room", "type": name, "data": 1 });
        client.ok(frame(&longest)).await;
        for name in ["", &format!("{longest}x"), "a\nb", "a\u{7f}"] {
            assert_eq!(client.error(frame(name)).await, "bad_request", "{op} {name:?}");
        }
    }
}

/// Rules: word-1, token-1, code-7.
#[tokio::test]
async fn publishing_needs_permission() {
    let (redis, server) = redis_and_server().await;
    let rooms = json!({ "chat.*": ["read", "write"], "news": ["read"], "@*": ["write"] });
    let mut client = Client::connect(&server, &token("ann", rooms)).await;
    client.publish("chat.general", json!(1)).await;
    client.publish("@bob", json!(1)).await;
    for room in ["news", "chat", "other"] {
        let frame = json!({ "op": "publish", "room": room, "data": 1 });
        assert_eq!(client.error(frame).await, "forbidden", "{room}");
        assert_eq!(redis.ask(&["EXISTS", &format!("rl:{{{room}}}:log")]).number(), 0);
    }
}

/// Rules: pub-7, close-4503, code-12.
#[tokio::test]
async fn the_rate_limit_is_reported_and_ignoring_it_closes_the_connection() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__PUBLISH_RATE", "10")]).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let flood: Value =
        (0..3000).map(|n| json!({ "op": "publish", "ref": n, "room": "room", "data": n })).collect();
    client.send(flood).await;
    assert_eq!(client.closed().await, 4503);
    let mut frames = Vec::new();
    while let Some(frame) = client.next_or_closed().await {
        frames.push(frame);
    }
    let goodbye = frames.pop().unwrap();
    assert_eq!((&goodbye["op"], &goodbye["code"]), (&json!("goodbye"), &json!("rate_limited")));
    let limited: Vec<_> = frames.iter().filter(|frame| frame["op"] == "error").collect();
    assert!(!limited.is_empty());
    for frame in limited {
        assert_eq!(frame["code"], "rate_limited");
        assert!(frame["retry_after_ms"].as_u64().is_some(), "{frame}");
    }
    // Messages within the limit may still have been in flight.
    let stored = async || redis.ask(&["XLEN", "rl:{room}:log"]).number();
    eventually("messages within the limit are stored", async || stored().await > 0).await;
    assert!((1..=100).contains(&stored().await));
}

/// Rules: ws-1, word-3.
#[tokio::test]
async fn messagepack_carries_the_same_values() {
    let (_redis, server) = redis_and_server().await;
    let mut packed = Client::connect_msgpack(&server, &everything("ann")).await;
    let mut json = Client::connect(&server, &everything("bob")).await;
    packed.join("room").await;
    json.join("room").await;
    let values = [
        json!(null),
        json!([true, false]),
        json!([0, 127, 128, 65536, u64::MAX, -1, -129, i64::MIN]),
        json!([0.5, -1.25e100]),
        json!(["", "hällo ✓", "x".repeat(300)]),
        json!({ "a": { "b": [[], {}] }, "op": "publish" }),
    ];
    for value in &values {
        packed.publish("room", value.clone()).await;
        json.publish("room", value.clone()).await;
    }
    for reader in [&mut packed, &mut json] {
        for message in reader.messages(12).await.chunks(2) {
            assert_eq!(message[0]["data"], message[1]["data"]);
        }
    }
    let page = packed.ok(json!({ "op": "history", "room": "room" })).await;
    for (index, value) in values.iter().enumerate() {
        assert_eq!(&page["messages"][2 * index]["data"], value);
    }
}

/// Rules: word-3.
#[tokio::test]
async fn binary_stays_binary_and_is_base64_in_json() {
    let (_redis, server) = redis_and_server().await;
    let mut packed = Client::connect_msgpack(&server, &everything("ann")).await;
    let mut json = Client::connect(&server, &everything("bob")).await;
    packed.join("room").await;
    json.join("room").await;
    let data = json!({ "bytes": binary(&[1, 2, 255]), "none": binary(&[]) });
    packed.publish("room", data.clone()).await;
    assert_eq!(packed.next().await["data"], data);
    assert_eq!(json.next().await["data"], json!({ "bytes": "AQL/", "none": "" }));
    let page = json.ok(json!({ "op": "history", "room": "room" })).await;
    assert_eq!(page["messages"][0]["data"]["bytes"], "AQL/");
}

/// Rules: word-3.
#[tokio::test]
async fn messagepack_without_a_json_equivalent_is_refused() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect_msgpack(&server, &everything("ann")).await;
    let refused: [(&str, &[u8]); 6] = [
        ("an extension", &[0xd4, 1, 2]),
        ("a timestamp", &[0xd6, 0xff, 0, 0, 0, 1]),
        ("a map by number", &[0x81, 1, 2]),
        ("NaN", &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
        ("infinite", &[0xca, 0x7f, 0x80, 0, 0]),
        ("infinite, within", &[0x91, 0xca, 0xff, 0x80, 0, 0]),
    ];
    for (reference, (what, bytes)) in (500..).zip(refused) {
        let frame = json!({ "op": "publish", "ref": reference, "room": "room", "data": 0 });
        let mut frame = to_msgpack(&frame);
        assert_eq!(frame.pop(), Some(0), "the data comes last");
        frame.extend_from_slice(bytes);
        client.send_message(Message::Binary(frame.into())).await;
        let answer = client.answer(reference).await;
        assert_eq!(answer["code"], "bad_request", "{what}: {answer}");
    }
    client.publish("room", json!(1)).await;
}

/// Rules: frame-4.
#[tokio::test]
async fn keys_keep_their_order_and_large_integers_become_floating_point_numbers() {
    let (_redis, server) = redis_and_server().await;
    let (rest, path) = (Rest::new(&server, &everything("ann")), "/v1/rooms/room/messages");
    let data = r#"{"z":18446744073709551615,"a":-9223372036854775808,"m":18446744073709551616,"b":-9223372036854775809}"#;
    let post = rest.request(reqwest::Method::POST, path).header("Content-Type", "application/json");
    crate::harness::answer(post.body(format!("{{\"data\":{data}}}"))).await.with(201);
    let page = rest.request(reqwest::Method::GET, path).send().await.unwrap().text().await.unwrap();
    let exact = r#""data":{"z":18446744073709551615,"a":-9223372036854775808,"m":"#;
    assert!(page.contains(exact), "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let data = &page["messages"][0]["data"];
    assert_eq!((&data["m"], &data["b"]), (&json!(2f64.powi(64)), &json!(-(2f64.powi(63)))));
}
