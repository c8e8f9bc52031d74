//! The HTTP interface: publishing, rooms, deletions, listings, errors, MessagePack, and the operators'
//! endpoints.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Server, admin, answer, binary, eventually, everything, id_of, ids, redis_and_server,
    seq, seqs, token,
};

const KEY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

async fn start() -> (Redis, Server) {
    let (redis, server) = redis_and_server().await;
    (redis, server)
}

/// Rules: api-5.
#[tokio::test]
async fn a_message_is_published_once_for_its_key() {
    let (_redis, server) = start().await;
    let rest = Rest::new(&server, &everything("ann"));
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.join("room").await;
    let path = "/v1/rooms/room/messages";
    let body = json!({ "data": { "text": "hi" }, "type": "note" });

    let first = rest.post_with_key(path, KEY, &body).await.with(201);
    assert_eq!(first["key"], KEY);
    assert_eq!(first.get("duplicate"), None);
    let again = rest.post_with_key(path, KEY, &body).await.with(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    let second = rest.post(path, &json!({ "data": 2 })).await.with(201);
    assert_eq!(seq(&id_of(&second)), 2);
    assert!(uuid::Uuid::try_parse(second["key"].as_str().unwrap()).is_ok());

    let messages = reader.messages(2).await;
    assert_eq!(ids(&messages), [id_of(&first), id_of(&second)]);
    assert_eq!((&messages[0]["key"], &messages[0]["type"]), (&json!(KEY), &json!("note")));
    assert_eq!((&messages[1]["from"], &messages[1]["type"]), (&json!("ann"), &json!("message")));
}

/// Rules: api-2, api-3, code-2, code-4, code-7, code-11.
#[tokio::test]
async fn bad_requests_get_a_problem_with_a_code() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__MAX_MESSAGE", "1000")]).await;
    let rest = Rest::new(&server, &token("ann", json!({ "room": ["read", "write"], "readable": ["read"] })));
    let path = "/v1/rooms/room/messages";
    rest.post(path, &json!({})).await.problem(400, "bad_request");
    rest.post(path, &json!([1])).await.problem(400, "bad_request");
    rest.post(path, &json!({ "data": 1, "type": 5 })).await.problem(400, "bad_request");
    rest.post(path, &json!({ "data": "x".repeat(2000) })).await.problem(413, "too_large");
    // Far more than any message. The server may close before all of it is sent, and then the answer is
    // sometimes lost.
    let huge = rest.request(Method::POST, path).json(&json!({ "data": "x".repeat(2_000_000) })).send().await;
    assert!(huge.is_err() || huge.is_ok_and(|answer| answer.status() == 413));
    rest.post_with_key(path, "no-uuid", &json!({ "data": 1 })).await.problem(400, "bad_request");
    rest.post("/v1/rooms/a%20room/messages", &json!({ "data": 1 })).await.problem(400, "bad_request");
    rest.post("/v1/rooms/readable/messages", &json!({ "data": 1 })).await.problem(403, "forbidden");
    let body = |body: &'static str| {
        let request = rest.request(Method::POST, path).header("Content-Type", "application/json");
        answer(request.body(body))
    };
    body("{\"data\": ").await.problem(400, "bad_request");
    body("\u{0}").await.problem(400, "bad_request");

    let anonymous = Rest::anonymous(&server);
    anonymous.post(path, &json!({ "data": 1 })).await.problem(401, "unauthenticated");
    Rest::new(&server, "nonsense").get(path).await.problem(401, "unauthenticated");
    rest.get("/v1/nowhere").await.problem(404, "not_found");
    let deleted = rest.delete(path).await;
    assert_eq!(deleted.status, 405, "{deleted:?}");
    assert_eq!(redis.ask(&["EXISTS", "rl:{room}:log"]).number(), 0, "nothing was stored");
}

/// Rules: api-6.
#[tokio::test]
async fn a_batch_publishes_to_many_rooms_in_order() {
    let (redis, server) = start().await;
    let rest = Rest::new(&server, &token("ann", json!({ "room.*": ["read", "write"] })));
    let message = |room: &str, data: Value| json!({ "room": room, "data": data });
    let mut batch: Vec<Value> = (0..40).map(|n| message(&format!("room.{}", n % 4), json!(n))).collect();
    batch[5]["key"] = json!(KEY);
    batch[9]["key"] = json!(KEY);
    batch[7]["type"] = json!("note");
    batch.push(message("elsewhere", json!(1)));
    batch.push(message("no room", json!(1)));
    batch.push(json!({ "room": "room.0" }));
    batch.push(json!(5));
    let results = rest.post("/v1/messages", &json!(batch)).await.with(200);
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), batch.len());
    assert_eq!(results[5]["id"], results[9]["id"], "one key, one message");
    assert_eq!((&results[5]["key"], &results[9]["duplicate"]), (&json!(KEY), &json!(true)));
    let codes: Vec<&Value> = results[40..].iter().map(|result| &result["error"]["code"]).collect();
    assert_eq!(codes[..3], [&json!("forbidden"), &json!("bad_request"), &json!("bad_request")]);
    assert!(codes[3].is_string() && results[43]["error"]["message"].is_string());

    for room in 0..4 {
        let page = rest.get(&format!("/v1/rooms/room.{room}/messages")).await.with(200);
        let messages = page["messages"].as_array().unwrap();
        let expected: Vec<u64> = (0..40).filter(|n| n % 4 == room && *n != 9).collect();
        let data: Vec<u64> = messages.iter().map(|message| message["data"].as_u64().unwrap()).collect();
        assert_eq!(data, expected);
        assert_eq!(seqs(messages), (1..=expected.len() as u64).collect::<Vec<_>>());
    }
    assert_eq!(redis.ask(&["EXISTS", "rl:{elsewhere}:log"]).number(), 0);
    rest.post("/v1/messages", &json!({ "room": "room.1" })).await.problem(400, "bad_request");
    assert_eq!(rest.post("/v1/messages", &json!([])).await.with(200), json!([]));
}

/// Rules: api-9, rest-2, code-8.
#[tokio::test]
async fn a_room_can_be_described() {
    let (redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let ids = client.publish_many("room", 10, 100).await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "8"]);
    client.join("room").await;
    let mut durable = Client::connect(&server, &everything("bob")).await;
    durable.subscribe("room", json!({ "durable": "phone" })).await;

    let rest = Rest::new(&server, &everything("cia"));
    let room = rest.get("/v1/rooms/room").await.with(200);
    assert_eq!(room["room"], "room");
    assert_eq!((&room["head"], &room["first"]), (&json!(ids[9]), &json!(ids[2])));
    assert_eq!((&room["length"], &room["subscribers"]), (&json!(8), &json!(2)));
    assert!(room["bytes"].as_u64().unwrap() > 800, "{room}");
    let subscriptions = match &room["subscriptions"] {
        Value::Array(list) => list.len(),
        count => count.as_u64().unwrap() as usize,
    };
    assert_eq!(subscriptions, 1);

    rest.get("/v1/rooms/nowhere").await.problem(404, "not_found");
    let stranger = Rest::new(&server, &token("eve", json!({})));
    stranger.get("/v1/rooms/room").await.problem(403, "forbidden");
}

/// Rules: api-11, rest-4.
#[tokio::test]
async fn a_message_can_be_deleted() {
    let (redis, server) = start().await;
    let ids = Client::connect(&server, &everything("ann")).await.publish_many("room", 3, 10).await;
    let path = format!("/v1/rooms/room/messages/{}", ids[1]);
    Rest::new(&server, &everything("ann")).delete(&path).await.problem(403, "forbidden");
    let rest = Rest::new(&server, &token("root", json!({ "room": ["manage"] })));
    assert_eq!(rest.delete(&path).await.with(204), Value::Null);
    assert_eq!(redis.ask(&["XLEN", "rl:{room}:log"]).number(), 2);
    rest.delete(&path).await.problem(404, "not_found");
    rest.delete("/v1/rooms/room/messages/x").await.problem(400, "bad_request");
    rest.delete("/v1/rooms/other/messages/1-1").await.problem(403, "forbidden");
}

/// Rules: rest-9.
#[tokio::test]
async fn deleting_a_message_notifies_its_present_subscribers() {
    let (redis, server) = start().await;
    let other = Server::on(&redis.url()).await;
    let mut near = Client::connect(&server, &everything("ann")).await;
    let mut far = Client::connect_msgpack(&other, &everything("bob")).await;
    let id = near.publish("room", json!("secret")).await;
    near.join("room").await;
    far.join("room").await;
    let path = "/v1/rooms/room/events?signals=true&since=0";
    let mut events = Rest::new(&other, &everything("cia")).events(path, &[]).await.unwrap();
    events.next().await;

    let rest = Rest::new(&server, &token("root", json!({ "room": ["manage"] })));
    rest.delete(&format!("/v1/rooms/room/messages/{id}")).await.with(204);
    let expected = json!({
        "op": "signal", "room": "room", "from": "root", "type": "$deleted", "data": { "id": id }, "sys": true,
    });
    for client in [&mut near, &mut far] {
        assert_eq!(client.next().await, expected);
    }
    assert_eq!(events.next().await.data, expected);

    near.ok(json!({ "op": "signal", "room": "room", "type": "$deleted", "data": { "id": id }, "sys": true }))
        .await;
    let forged = far.expect("signal").await;
    assert_eq!(forged.get("sys"), None, "only the server's own signals carry it");
}

/// Rules: api-11, out-6, sub-5, rest-4, code-8.
#[tokio::test]
async fn deleting_a_room_notifies_its_subscribers() {
    let (redis, server) = start().await;
    let other = Server::on(&redis.url()).await;
    let mut near = Client::connect(&server, &everything("ann")).await;
    let mut far = Client::connect(&other, &everything("bob")).await;
    let old = near.publish("room", json!(1)).await;
    near.join("room").await;
    far.subscribe("room", json!({ "durable": "phone" })).await;
    far.until("live").await;

    Rest::new(&server, &everything("ann")).delete("/v1/rooms/room").await.problem(403, "forbidden");
    Rest::new(&server, &admin()).delete("/v1/rooms/room").await.with(204);
    for client in [&mut near, &mut far] {
        let ended = client.expect("unsubscribed").await;
        assert_eq!((&ended["room"], &ended["code"]), (&json!("room"), &json!("deleted")));
        let ack = json!({ "op": "ack", "room": "room", "id": "1-1" });
        assert_eq!(client.error(ack).await, "not_subscribed");
    }
    let keys = redis.ask(&["KEYS", "*{room}*"]);
    assert_eq!(keys.list(), [], "nothing of it is left");
    Rest::new(&server, &admin()).get("/v1/rooms/room").await.problem(404, "not_found");
    Rest::new(&server, &admin()).delete("/v1/rooms/room").await.problem(404, "not_found");
    assert_eq!(seq(&near.publish("room", json!("anew")).await), 1);
    far.subscribe("room", json!({ "since": old })).await;
    assert_eq!(far.expect("gap").await["reason"], "rewound");
}

/// Rules: api-11, out-6, rest-4.
#[tokio::test]
async fn deleting_a_durable_subscription_notifies_its_holder() {
    let (redis, server) = start().await;
    let other = Server::on(&redis.url()).await;
    let mut client = Client::connect(&other, &everything("bob")).await;
    client.publish("room", json!(1)).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    client.until("live").await;
    let path = "/v1/rooms/room/subscriptions/bob/phone";
    Rest::new(&server, &everything("bob")).delete(path).await.problem(403, "forbidden");
    let rest = Rest::new(&server, &admin());
    rest.delete(path).await.with(204);
    let ended = client.expect("unsubscribed").await;
    assert_eq!((&ended["room"], &ended["code"]), (&json!("room"), &json!("deleted")));
    assert_eq!(redis.ask(&["XINFO", "GROUPS", "rl:{room}:log"]).list(), []);
    assert_eq!(rest.get("/v1/rooms/room/subscriptions").await.with(200), json!([]));
    rest.delete(path).await.problem(404, "not_found");
}

/// Rules: frame-5.
#[tokio::test]
async fn users_may_have_odd_names() {
    let (redis, server) = start().await;
    let user = "team/änn e?%/x";
    let mut client = Client::connect(&server, &everything(user)).await;
    let id = client.publish("room", json!(1)).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(client.expect("message").await["from"], user);
    client.ok(json!({ "op": "ack", "room": "room", "id": id })).await;
    let rest = Rest::new(&server, &admin());
    let listed = rest.get("/v1/rooms/room/subscriptions").await.with(200);
    assert_eq!(
        (&listed[0]["user"], &listed[0]["name"], &listed[0]["lag"]),
        (&json!(user), &json!("phone"), &json!(0))
    );
    rest.delete("/v1/rooms/room/subscriptions/team%2F%C3%A4nn%20e%3F%25%2Fx/phone").await.with(204);
    assert_eq!(redis.ask(&["XINFO", "GROUPS", "rl:{room}:log"]).list(), []);
}

/// Returns all rooms of a listing, page by page.
pub async fn listed(rest: &Rest, pattern: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = rest.get(&format!("/v1/rooms?match={pattern}{cursor}")).await.with(200);
        for room in page["rooms"].as_array().unwrap() {
            found.insert(room.as_str().unwrap().to_owned());
        }
        match &page["cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            end => {
                assert_eq!(*end, Value::Null);
                return found;
            }
        }
    }
}

/// Rules: api-12, rest-3.
#[tokio::test]
async fn rooms_are_listed_by_pattern_and_in_pages() {
    let (_redis, server) = start().await;
    let rest = Rest::new(&server, &admin());
    let names: BTreeSet<String> = (0..2500).map(|n| format!("many.{n}")).collect();
    let message = |room: &str| json!({ "room": room, "data": 1 });
    let all: Vec<Value> = names.iter().map(String::as_str).chain(["@ann", "other"]).map(message).collect();
    for batch in all.chunks(500) {
        rest.post("/v1/messages", &json!(batch)).await.with(200);
    }
    assert_eq!(listed(&rest, "many.*").await, names);
    assert_eq!(listed(&rest, "*").await.len(), 2502);
    assert_eq!(listed(&rest, "@*").await, BTreeSet::from(["@ann".to_owned()]));
    assert_eq!(listed(&rest, "other").await, BTreeSet::from(["other".to_owned()]));
    assert_eq!(listed(&rest, "absent*").await, BTreeSet::new());

    let subscribed = "only-subscribed";
    Client::connect(&server, &everything("bob")).await.subscribe(subscribed, json!({ "durable": "d" })).await;
    assert_eq!(listed(&rest, "only*").await, BTreeSet::from([subscribed.to_owned()]));

    rest.get("/v1/rooms?cursor=nonsense").await.problem(400, "bad_request");
    for rooms in [json!({ "*": ["read"] }), json!({ "many.*": ["manage"] })] {
        Rest::new(&server, &token("eve", rooms)).get("/v1/rooms").await.problem(403, "forbidden");
    }
}

/// Rules: api-1.
#[tokio::test]
async fn messagepack_is_used_on_request() {
    let (_redis, server) = start().await;
    let rest = Rest::new(&server, &admin());
    let path = "/v1/rooms/room/messages";
    let data = json!({ "bytes": binary(&[0, 255]), "text": "x" });
    let published = rest.post_msgpack(path, &json!({ "data": data })).await;
    assert_eq!(published.content_type, "application/msgpack");
    let id = id_of(&published.with(201));

    let packed = rest.get_msgpack(path).await;
    assert_eq!(packed.content_type, "application/msgpack");
    let packed = packed.with(200);
    assert_eq!((&packed["messages"][0]["data"], &packed["head"]), (&data, &json!(id)));
    assert!(packed["messages"][0]["key"].is_string(), "a key is text in both encodings");
    let json = rest.get(path).await.with(200);
    assert_eq!(json["messages"][0]["data"], json!({ "bytes": "AP8=", "text": "x" }));

    let batch = json!([{ "room": "room", "data": binary(&[1]) }, { "room": "room" }]);
    let results = rest.post_msgpack("/v1/messages", &batch).await.with(200);
    assert_eq!(seq(&id_of(&results[0])), 2);
    assert_eq!(results[1]["error"]["code"], "bad_request");
    let room = rest.get_msgpack("/v1/rooms/room").await.with(200);
    assert_eq!(room["length"], 2);
    for broken in [&b"\xc1"[..], b"\x81\xa4data\xd4\x01\x02", b"\x81\xa4data", b""] {
        let request = rest.request(Method::POST, path).header("Content-Type", "application/msgpack");
        answer(request.body(broken.to_vec())).await.problem(400, "bad_request");
    }
}

/// Rules: api-14, rest-6.
#[tokio::test]
async fn health_is_that_of_the_process_and_readiness_includes_redis() {
    let mut redis = Redis::durable().await;
    let server = Server::on(&redis.url()).await;
    let rest = Rest::anonymous(&server);
    rest.get("/healthz").await.with(200);
    eventually("the server is ready", async || rest.get("/readyz").await.status == 200).await;
    redis.stop();
    eventually("it is not ready without Redis", async || rest.get("/readyz").await.status == 503).await;
    let reason = rest.get("/readyz").await;
    assert!(reason.body.to_string().to_lowercase().contains("redis"), "{reason:?}");
    rest.get("/healthz").await.with(200);
    redis.start_again().await;
    eventually("it is ready again", async || rest.get("/readyz").await.status == 200).await;
}

/// Rules: api-15, rest-6.
#[tokio::test]
async fn metrics_are_in_the_prometheus_text_format() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.join("room").await;
    client.publish("room", json!(1)).await;
    client.messages(1).await;
    let metrics = Rest::anonymous(&server).get("/metrics").await;
    assert!(metrics.content_type.starts_with("text/plain"), "{metrics:?}");
    let text = metrics.with(200);
    let text = text.as_str().unwrap();
    for name in ["roomlog_connections", "roomlog_publishes_total", "roomlog_deliveries_total"] {
        let mut values = text.lines().filter(|line| line.starts_with(name));
        assert!(values.any(|line| line.ends_with(" 1")), "{name} in\n{text}");
    }
    assert!(!text.contains("\"room\"") && !text.contains("\"ann\""), "no names as labels");

    let apart = Server::with(&redis.url(), &[("ROOMLOG_SERVER__METRICS_LISTEN", "127.0.0.1:0")]).await;
    assert_eq!(Rest::anonymous(&apart).get("/metrics").await.status, 404);
}

/// Rules: api-16, rest-6.
#[tokio::test]
async fn the_openapi_document_lists_the_routes() {
    let (_redis, server) = start().await;
    let document = Rest::anonymous(&server).get("/openapi.json").await.with(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = [
        ("/v1/rooms/{room}/messages", "post"),
        ("/v1/rooms/{room}/messages", "get"),
        ("/v1/messages", "post"),
        ("/v1/rooms/{room}/events", "get"),
        ("/v1/rooms/{room}", "get"),
        ("/v1/rooms/{room}", "delete"),
        ("/v1/rooms/{room}/subscriptions", "get"),
        ("/v1/rooms/{room}/subscriptions", "post"),
        ("/v1/rooms/{room}/acks", "post"),
        ("/v1/rooms/{room}/signals", "post"),
        ("/v1/rooms/{room}/subscriptions/{user}/{name}", "delete"),
        ("/v1/rooms/{room}/messages/{id}", "delete"),
        ("/v1/rooms", "get"),
        ("/v1/revocations", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    ];
    for (path, method) in paths {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"].is_object(), "{method} {path} is missing");
    }
}

/// Rules: frame-2.
#[tokio::test]
async fn impossible_ids_are_refused_and_the_page_before_the_first_is_empty() {
    let (_redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &everything("ann"));
    let mut client = Client::connect(&server, &everything("ann")).await;
    for id in ["18446744073709551615-18446744073709551615", "281474976710656-1", "1-9007199254740992"] {
        for bound in ["after", "before"] {
            let path = format!("/v1/rooms/room/messages?{bound}={id}");
            rest.get(&path).await.problem(400, "bad_request");
        }
        for fields in [json!({ "since": id }), json!({ "since": id, "durable": "phone" })] {
            let mut frame = json!({ "op": "subscribe", "room": "room" });
            frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(client.error(frame).await, "bad_request", "{id}");
        }
    }
    // The `head` of an empty room.
    let page = rest.get("/v1/rooms/room/messages?before=0-0").await.with(200);
    assert_eq!((&page["messages"], &page["more"]), (&json!([]), &json!(false)));
    rest.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await.with(201);
    let page = rest.get("/v1/rooms/room/messages?before=0-0").await.with(200);
    assert_eq!(page["messages"], json!([]));
}

/// Rules: rest-8.
#[tokio::test]
async fn cross_origin_pages_may_read_retry_after_and_request_ids() {
    let redis = Redis::start().await;
    let server =
        Server::with(&redis.url(), &[("ROOMLOG_SERVER__ALLOWED_ORIGINS", "https://app.example")]).await;
    let rest = Rest::new(&server, &everything("ann"));
    let asked = rest.request(reqwest::Method::GET, "/v1/rooms/room/messages");
    let answer = asked.header("Origin", "https://app.example").send().await.unwrap();
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap().to_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"), "{exposed}");
    let asked = rest.request(reqwest::Method::OPTIONS, "/v1/rooms/room/messages");
    let asked = asked.header("Origin", "https://app.example").header("Access-Control-Request-Method", "POST");
    let answer = asked.send().await.unwrap();
    let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap().to_lowercase();
    assert!(allowed.contains("x-request-id"), "{allowed}");
}
