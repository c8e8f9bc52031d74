//! Reading the log in pages, over WebSocket and HTTP, by id and by time, and long polling.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Rest, Server, admin, eventually, everything, id_of, room_with, seqs, token};

fn shown(page: &Value) -> (Vec<u64>, bool) {
    (seqs(page["messages"].as_array().unwrap()), page["more"].as_bool().unwrap())
}

fn range(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

/// Rules: op-6, hist-1.
#[tokio::test]
async fn pages_over_websocket() {
    let (_redis, server, mut client, ids) = room_with(250).await;
    let mut packed = Client::connect_msgpack(&server, &everything("ann")).await;
    let cases = [
        (json!({ "after": "0" }), range(1, 100), true),
        (json!({ "after": ids[99] }), range(101, 200), true),
        (json!({ "after": ids[199] }), range(201, 250), false),
        (json!({ "after": ids[249] }), vec![], false),
        (json!({ "after": ids[9], "limit": 1 }), range(11, 11), true),
        (json!({ "after": "0", "limit": 1000 }), range(1, 250), false),
        (json!({ "after": "0", "limit": 250 }), range(1, 250), false),
        (json!({ "before": ids[249] }), range(150, 249), true),
        (json!({ "before": ids[50], "limit": 50 }), range(1, 50), false),
        (json!({ "before": ids[50], "limit": 49 }), range(2, 50), true),
        (json!({ "before": ids[0] }), vec![], false),
        (json!({ "limit": 3 }), range(248, 250), true),
    ];
    for (fields, expected, more) in cases {
        let mut frame = json!({ "op": "history", "room": "room" });
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        for client in [&mut client, &mut packed] {
            let page = client.ok(frame.clone()).await;
            assert_eq!(shown(&page), (expected.clone(), more), "{fields}");
            assert_eq!(page["head"], json!(ids[249]));
            assert_eq!(page.get("gap"), None);
        }
    }
}

/// Rules: op-6, api-4.
#[tokio::test]
async fn a_page_has_complete_messages() {
    let (_redis, server, mut client, _ids) = room_with(0).await;
    let id = client.publish("room", json!({ "a": 1 })).await;
    let page = client.ok(json!({ "op": "history", "room": "room", "after": "0" })).await;
    let message = &page["messages"][0];
    let rest = Rest::new(&server, &everything("bob"));
    assert_eq!(rest.get("/v1/rooms/room/messages").await.with(200)["messages"][0], *message);
    let expected = json!({
        "room": "room", "id": id, "key": message["key"], "from": "ann", "type": "message", "data": { "a": 1 }
    });
    assert_eq!(*message, expected);
}

/// Rules: api-7, hist-1, hist-3.
#[tokio::test]
async fn pages_over_http() {
    let (_redis, server, _client, ids) = room_with(250).await;
    let rest = Rest::new(&server, &token("bob", json!({ "room": ["read"] })));
    let descending = |from: u64, to: u64| (to..=from).rev().collect::<Vec<u64>>();
    let cases = [
        (format!("after={}", ids[99]), range(101, 200), true),
        ("after=0&limit=1000".into(), range(1, 250), false),
        (format!("after={}&limit=3", ids[246]), range(248, 250), false),
        (format!("before={}&limit=10", ids[100]), range(91, 100), true),
        (format!("before={}&limit=10&order=asc", ids[100]), range(91, 100), true),
        (format!("before={}&limit=10&order=desc", ids[100]), descending(100, 91), true),
        ("limit=5&order=desc".into(), descending(250, 246), true),
        ("limit=5".into(), range(1, 5), true),
        (format!("after={}&limit=3&order=desc", ids[99]), descending(103, 101), true),
    ];
    for (query, expected, more) in cases {
        let page = rest.get(&format!("/v1/rooms/room/messages?{query}")).await.with(200);
        assert_eq!(shown(&page), (expected, more), "{query}");
        assert_eq!(page["head"], json!(ids[249]), "{query}");
    }
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=x",
        "order=up",
        "wait=61",
        "wait=x",
        "after=1-1&before=2-2",
        "after=1-1&from_time=1",
        "before=1-1&from_time=1",
    ] {
        rest.get(&format!("/v1/rooms/room/messages?{bad}")).await.problem(400, "bad_request");
    }
    let other = Rest::new(&server, &token("eve", json!({ "room": ["write"] })));
    other.get("/v1/rooms/room/messages").await.problem(403, "forbidden");
}

/// Rules: hist-1, hist-2.
#[tokio::test]
async fn a_page_can_start_at_a_time() {
    let (redis, server, mut client, _ids) = room_with(0).await;
    // Explicit times: the log's ids are its times.
    let log = "rl:{room}:log";
    for (seq, ms) in [(1, 1000), (2, 2000), (3, 2000), (4, 5000)] {
        let id = format!("{ms}-{seq}");
        let key = "0123456789abcdef";
        redis.ask(&["XADD", log, &id, "key", key, "from", "x", "type", "t", "data", "\u{1}"]);
    }
    redis.ask(&["HSET", "rl:{room}:head", "ms", "5000", "seq", "4"]);
    let rest = Rest::new(&server, &everything("bob"));
    for (from, expected) in [
        (0, range(1, 4)),
        (1000, range(1, 4)),
        (1001, range(2, 4)),
        (2000, range(2, 4)),
        (4000, vec![4]),
        (5001, vec![]),
    ] {
        let page = rest.get(&format!("/v1/rooms/room/messages?from_time={from}")).await.with(200);
        assert_eq!(shown(&page), (expected, false), "{from}");
        assert_eq!(page.get("gap"), None, "{from}");
    }
    for (query, expected, more) in [
        ("from_time=2000&limit=1", vec![2], true),
        ("from_time=2000&limit=2&order=desc", vec![3, 2], true),
        ("from_time=1970-01-01T00:00:02Z", range(2, 4), false),
        ("from_time=1970-01-01T00:00:02.001Z", vec![4], false),
    ] {
        let page = rest.get(&format!("/v1/rooms/room/messages?{query}")).await.with(200);
        assert_eq!(shown(&page), (expected, more), "{query}");
    }
    rest.get("/v1/rooms/room/messages?from_time=yesterday").await.problem(400, "bad_request");

    let id = client.publish("room", json!("now")).await;
    assert_eq!(crate::harness::seq(&id), 5);
}

/// Rules: hist-6.
#[tokio::test]
async fn a_page_reports_missing_messages() {
    let (redis, server, mut client, ids) = room_with(10).await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "5"]);
    redis.ask(&["XDEL", "rl:{room}:log", &ids[7]]);
    let rest = Rest::new(&server, &everything("bob"));
    let gap =
        |after: usize, next: usize| json!({ "after": ids[after], "next": ids[next], "reason": "trimmed" });

    let page = client.ok(json!({ "op": "history", "room": "room", "after": ids[1] })).await;
    assert_eq!((shown(&page).0, &page["gap"]), (vec![6, 7, 9, 10], &gap(1, 5)));
    let page = client.ok(json!({ "op": "history", "room": "room", "after": ids[5] })).await;
    assert_eq!((shown(&page).0, &page["gap"]), (vec![7, 9, 10], &gap(6, 8)));
    let page = rest.get(&format!("/v1/rooms/room/messages?after={}", ids[1])).await.with(200);
    assert_eq!((shown(&page).0, &page["gap"]), (vec![6, 7, 9, 10], &gap(1, 5)));
    let page = rest.get(&format!("/v1/rooms/room/messages?after={}", ids[8])).await.with(200);
    assert_eq!((shown(&page).0, page.get("gap")), (vec![10], None));
}

/// Rules: hist-5.
#[tokio::test]
async fn large_messages_make_short_pages_without_leaving_any_out() {
    let (_redis, server, mut client, _ids) = room_with(0).await;
    for _ in 0..4 {
        client.publish_many("room", 10, 60_000).await;
    }
    for descending in [false, true] {
        let (mut seen, mut pages) = (Vec::new(), 0);
        let mut bound =
            if descending { json!({ "before": "99999999999999-1" }) } else { json!({ "after": "0" }) };
        loop {
            let mut frame = json!({ "op": "history", "room": "room", "limit": 1000 });
            frame.as_object_mut().unwrap().extend(bound.as_object().unwrap().clone());
            let page = client.ok(frame).await;
            let messages = page["messages"].as_array().unwrap();
            assert!(!messages.is_empty(), "{bound} after {seen:?}: {page}");
            pages += 1;
            match descending {
                false => seen.extend(seqs(messages)),
                true => seen.extend(seqs(messages).into_iter().rev()),
            }
            bound = match (descending, page["more"] == true) {
                (false, true) => json!({ "after": id_of(&messages[messages.len() - 1]) }),
                (true, true) => json!({ "before": id_of(&messages[0]) }),
                (_, false) => break,
            };
        }
        // 2.4 MB.
        assert!((3..10).contains(&pages), "{pages} pages");
        if descending {
            seen.reverse();
        }
        assert_eq!(seen, range(1, 40));
    }
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seqs(&reader.until("live").await), range(1, 40));
}

/// Rules: op-6.
#[tokio::test]
async fn an_unknown_room_has_an_empty_history() {
    let (_redis, server, mut client, _ids) = room_with(0).await;
    let page = client.ok(json!({ "op": "history", "room": "nowhere", "after": "0" })).await;
    assert_eq!((shown(&page), &page["head"]), ((vec![], false), &json!("0-0")));
    let page = Rest::new(&server, &everything("bob")).get("/v1/rooms/nowhere/messages").await.with(200);
    assert_eq!((shown(&page), &page["head"]), ((vec![], false), &json!("0-0")));
    for fields in
        [json!({ "limit": 0 }), json!({ "limit": 1001 }), json!({ "after": "1-1", "before": "2-2" })]
    {
        let mut frame = json!({ "op": "history", "room": "room" });
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(client.error(frame).await, "bad_request", "{fields}");
    }
}

/// Rules: api-7.
#[tokio::test]
async fn long_polling_waits_for_a_message() {
    let (redis, server, mut client, ids) = room_with(2).await;
    let other = Server::on(&redis.url()).await;
    let path = |after: &str, wait| format!("/v1/rooms/room/messages?after={after}&wait={wait}");

    for node in [&server, &other] {
        let rest = Rest::new(node, &everything("bob"));
        let page = rest.get(&path(&ids[0], 30)).await.with(200);
        assert_eq!(shown(&page).0[0], 2, "what is there is answered at once");
    }
    let (one, two) = (Rest::new(&server, &everything("bob")), Rest::new(&other, &everything("bob")));
    // Longer than any wait in this test.
    let (near, far) = (path(&ids[1], 60), path(&ids[1], 60));
    let publish = async {
        // Both polls are waiting once each node follows the room.
        for rest in [&one, &two] {
            eventually("the poll waits", async || rest.connections("poll").await == 1).await;
        }
        client.publish("room", json!("new")).await
    };
    let (near, far, id) = tokio::join!(one.get(&near), two.get(&far), publish);
    for page in [near, far] {
        let page = page.with(200);
        assert_eq!(shown(&page), (vec![3], false));
        assert_eq!(id_of(&page["messages"][0]), id);
    }
}

/// Rules: api-7.
#[tokio::test]
async fn long_polling_ends_empty_when_nothing_comes() {
    let (_redis, server, _client, ids) = room_with(1).await;
    let rest = Rest::new(&server, &everything("bob"));
    let started = Instant::now();
    let page = rest.get(&format!("/v1/rooms/room/messages?after={}&wait=1", ids[0])).await.with(200);
    assert_eq!((shown(&page), &page["head"]), ((vec![], false), &json!(ids[0])));
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

/// Rules: hist-3.
#[tokio::test]
async fn long_polling_ends_when_the_room_is_deleted() {
    let (redis, server, _client, ids) = room_with(2).await;
    let other = Server::on(&redis.url()).await;
    let [near, far] = [&server, &other].map(|server| Rest::new(server, &everything("bob")));
    let path = format!("/v1/rooms/room/messages?after={}&wait=60", ids[1]);
    let delete = async {
        for rest in [&near, &far] {
            eventually("the poll waits", async || rest.connections("poll").await == 1).await;
        }
        Rest::new(&server, &admin()).delete("/v1/rooms/room").await.with(204)
    };
    let started = Instant::now();
    let (one, two, _) = tokio::join!(near.get(&path), far.get(&path), delete);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    for page in [one, two] {
        assert_eq!(page.with(200)["gap"]["reason"], "rewound");
    }
}
