//! Server-Sent Events: the log as a stream that a browser resumes automatically.

use serde_json::{Value, json};

use crate::harness::{
    Client, Event, Redis, Rest, Server, admin, everything, id_of, redis_and_server, soon, token,
};

const PATH: &str = "/v1/rooms/room/events";

/// Starts a server, and a client that publishes `count` messages to a room. Returns their ids, and a reader
/// of the room's events.
async fn room_with(count: usize) -> (Redis, Server, Client, Vec<String>, Rest) {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let ids = client.publish_many("room", count, 10).await;
    let rest = Rest::new(&server, &token("bob", json!({ "room": ["read"] })));
    (redis, server, client, ids, rest)
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone().unwrap()).collect()
}

/// Rules: api-8.
#[tokio::test]
async fn an_event_is_a_message() {
    let (_redis, _server, mut client, _ids, rest) = room_with(0).await;
    let mut events = rest.events(&format!("{PATH}?since=0"), &[]).await.unwrap();
    let frame = json!({ "op": "publish", "room": "room", "data": { "text": "a\nb\r\nc" }, "type": "note" });
    let id = id_of(&client.ok(frame).await);
    let event = events.next().await;
    assert_eq!((event.id, event.name.as_deref()), (Some(id.clone()), Some("note")));
    let expected = json!({
        "room": "room", "id": id, "key": event.data["key"], "from": "ann", "type": "note",
        "data": { "text": "a\nb\r\nc" }
    });
    let mut data = event.data;
    data.as_object_mut().unwrap().remove("op");
    assert_eq!(data, expected);
}

/// Rules: api-8, sse-2.
#[tokio::test]
async fn a_stream_starts_at_the_requested_position() {
    let (_redis, _server, mut client, mut all, rest) = room_with(10).await;
    // The address, `Last-Event-ID`, and the number of messages after which delivery starts.
    let cases = [
        (PATH.to_owned(), Some(all[6].clone()), 7),
        (format!("{PATH}?since={}", all[4]), None, 5),
        (format!("{PATH}?since=0"), None, 0),
        (format!("{PATH}?last=3"), None, 7),
        (format!("{PATH}?since=$"), None, 10),
        // A resuming browser requests the same address, so its last id takes precedence.
        (format!("{PATH}?since=0"), Some(all[8].clone()), 9),
    ];
    let mut streams = Vec::new();
    for (path, seen, after) in &cases {
        let headers: Vec<_> = seen.iter().map(|id| ("Last-Event-ID", id.as_str())).collect();
        streams.push((rest.events(path, &headers).await.unwrap(), *after));
    }
    all.push(client.publish("room", json!("new")).await);
    for (events, after) in &mut streams {
        let seen = events.take(all.len() - *after).await;
        assert_eq!(ids(&seen), all[*after..]);
    }
}

/// Rules: api-8.
#[tokio::test]
async fn a_stream_continues_live_with_messages_from_other_nodes() {
    let (redis, _server, _client, _ids, rest) = room_with(0).await;
    let other = Server::on(&redis.url()).await;
    let mut events = rest.events(&format!("{PATH}?last=0"), &[]).await.unwrap();
    let all = Client::connect(&other, &everything("cia")).await.publish_many("room", 300, 10).await;
    assert_eq!(ids(&events.take(300).await), all);
}

/// Rules: api-8, sse-4.
#[tokio::test]
async fn a_gap_is_an_event() {
    let (redis, _server, _client, all, rest) = room_with(6).await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "2"]);
    let mut events = rest.events(PATH, &[("Last-Event-ID", &all[0])]).await.unwrap();
    let gap = events.next().await;
    assert_eq!((gap.name.as_deref(), &gap.id), (Some("gap"), &None));
    let expected = [("after", json!(all[0])), ("next", json!(all[4])), ("reason", json!("trimmed"))];
    for (name, value) in expected {
        assert_eq!(gap.data[name], value, "{}", gap.data);
    }
    assert_eq!(ids(&events.take(2).await), all[4..]);
}

#[tokio::test]
async fn invalid_stream_requests_get_a_problem() {
    let (_redis, server, _client, _ids, rest) = room_with(0).await;
    for (path, status, code) in [
        ("/v1/rooms/other/events", 403, "forbidden"),
        ("/v1/rooms/room/events?since=x", 400, "bad_request"),
        ("/v1/rooms/room/events?last=1001", 400, "bad_request"),
        ("/v1/rooms/ro%20om/events", 400, "bad_request"),
    ] {
        rest.events(path, &[]).await.unwrap_err().problem(status, code);
    }
    let anonymous = Rest::anonymous(&server).events(PATH, &[]).await;
    anonymous.unwrap_err().problem(401, "unauthenticated");
    assert!(rest.events(PATH, &[("Last-Event-ID", "x")]).await.is_err());
}

/// Rules: api-8.
#[tokio::test]
async fn comments_keep_a_silent_stream_alive() {
    let (_redis, _server, mut client, _ids, rest) = room_with(0).await;
    let mut events = rest.events(PATH, &[]).await.unwrap();
    let started = std::time::Instant::now();
    // There may be some at the start. The one after that is the keep-alive.
    while started.elapsed().as_secs() < 10 {
        events.comment().await;
    }
    let id = client.publish("room", Value::Null).await;
    assert_eq!(events.next().await.id, Some(id));
}

/// Rules: sse-1.
#[tokio::test]
async fn comments_mark_the_start_of_a_stream_and_the_end_of_its_backlog() {
    let (_redis, _server, _client, _ids, rest) = room_with(2).await;
    let request = rest.request(reqwest::Method::GET, &format!("{PATH}?since=0"));
    let mut stream = soon("the stream", request.send()).await.unwrap();
    let mut text = String::new();
    while !text.ends_with(": live\n\n") {
        let chunk = soon("more of it", stream.chunk()).await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.starts_with(": \n\n"), "{text:?}");
    assert_eq!((text.matches("\nid: ").count(), text.matches(": live").count()), (2, 1), "{text:?}");
}

/// Rules: sse-3, sse-4.
#[tokio::test]
async fn a_stream_ends_when_its_room_is_deleted() {
    let (_redis, server, _client, _ids, rest) = room_with(1).await;
    let mut events = rest.events(&format!("{PATH}?since=0"), &[]).await.unwrap();
    events.take(1).await;
    Rest::new(&server, &admin()).delete("/v1/rooms/room").await.with(204);
    let event = events.next().await;
    assert_eq!((event.name.as_deref(), &event.id), (Some("unsubscribed"), &None));
    assert_eq!(event.data["code"], "deleted");
    events.ended().await;
}
