//! The claims of `SECURITY.md` that no other file tests, and a check that the tests it names exist.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Server, admin, eventually, everything, redis_and_server, repository, run, token,
};

#[tokio::test]
async fn logs_contain_no_tokens_and_no_data() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LOG__LEVEL", "trace")]).await;
    let (good, bad) = (everything("ann"), format!("{}x", everything("eve")));
    let secret = "attack-at-dawn";
    let mut client = Client::connect(&server, &good).await;
    client.join("room").await;
    client.publish("room", json!({ "plan": secret })).await;
    client.error(json!({ "op": "publish", "room": "no room", "data": secret })).await;
    client.error(json!({ "op": "auth", "token": bad })).await;
    let signal = json!({ "op": "signal", "room": "room", "type": "t", "data": secret });
    client.ok(signal).await;
    let rest = Rest::new(&server, &good);
    rest.post("/v1/rooms/room/messages", &json!({ "data": secret })).await.with(201);
    rest.get("/v1/rooms/room/messages").await.with(200);
    Rest::new(&server, &bad).get("/v1/rooms/room/messages").await.problem(401, "unauthenticated");
    // Redis refuses a write of the room, which is logged.
    redis.ask(&["SET", "rl:{broken}:log", "x"]);
    client.error(json!({ "op": "publish", "room": "broken", "data": secret })).await;
    eventually("the failure is logged", async || server.log().iter().any(|line| line.contains("WARN"))).await;
    let signatures = [&good, &bad].map(|token| token.rsplit_once('.').unwrap().1.to_owned());
    for line in server.log() {
        let told = line.contains(secret) || signatures.iter().any(|signature| line.contains(signature));
        assert!(!told, "{line}");
    }
}

#[tokio::test]
async fn users_cannot_read_or_write_as_another_user() {
    let (_redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &everything("ann")).await;
    let mut eve = Client::connect(&server, &everything("eve")).await;
    ann.subscribe("room", json!({ "durable": "phone" })).await;
    ann.expect("live").await;

    // The sender is the one of the token, whatever a frame or a body says.
    eve.ok(json!({ "op": "publish", "room": "room", "data": 1, "from": "ann" })).await;
    let rest = Rest::new(&server, &everything("eve"));
    let sent = json!({ "data": 2, "from": "ann", "user": "ann", "sub": "ann" });
    rest.post("/v1/rooms/room/messages", &sent).await.with(201);
    eve.ok(json!({ "op": "signal", "room": "room", "type": "t", "data": 3, "from": "ann" })).await;
    let seen = [ann.next().await, ann.next().await, ann.next().await];
    assert!(seen.iter().all(|frame| frame["from"] == "eve"), "{seen:?}");

    // A durable subscription of the same name, but of another user, is a different one.
    eve.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    let last = eve.messages(2).await.pop().unwrap();
    eve.ok(json!({ "op": "ack", "room": "room", "id": last["id"] })).await;
    eve.ok(json!({ "op": "unsubscribe", "room": "room", "forget": true })).await;
    let listed = Rest::new(&server, &admin()).get("/v1/rooms/room/subscriptions").await.with(200);
    let whose: Vec<&Value> = listed.as_array().unwrap().iter().map(|one| &one["user"]).collect();
    assert_eq!(whose, ["ann"]);
    assert_eq!((&listed[0]["connected"], &listed[0]["lag"]), (&json!(true), &json!(2)));
    assert_eq!(ann.settled().await, Vec::<Value>::new());
}

#[tokio::test]
async fn garbage_in_redis_affects_only_its_rooms() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let rest = Rest::new(&server, &admin());
    client.join("well").await;
    client.join("noisy").await;
    for payload in [
        &b""[..],
        b"\xff",
        b"\x96\xa1s",
        b"\xdd\xff\xff\xff\xff",
        b"\x95\xa1m\xa11\xa11\xa11\xa11",
        &[0x91; 100_000],
    ] {
        redis.ask(&[b"SPUBLISH", &b"rl:{noisy}:bell"[..], payload]);
        redis.ask(&[b"SPUBLISH", &b"rl:{other}:bell"[..], payload]);
    }
    for key in [
        "rl:{string}:log",
        "rl:{head}:head",
        "rl:{subs}:subs",
        "rl:{list}:log",
        "rl:{x",
        "rl:}:head",
        "rl:node:a",
    ] {
        redis.ask(&["SET", key, "garbage"]);
    }
    redis.ask(&["HSET", "rl:{texts}:head", "ms", "soon", "seq", "-1"]);
    redis.ask(&["HSET", "rl:{positions}:subs", "nobody", "nothing", "ann/phone", "x y z"]);
    redis.ask(&["XADD", "rl:{fields}:log", "1-1", "key", "short", "data", "\u{c1}"]);
    redis.ask(&["XADD", "rl:revocations", "*", "garbage", "yes"]);
    for room in ["string", "head", "subs", "list", "texts", "positions", "fields", "noisy"] {
        // Each may fail, and none may have further effects.
        client.request(json!({ "op": "publish", "room": room, "data": 1 })).await;
        client.request(json!({ "op": "subscribe", "room": room, "since": "0", "durable": "phone" })).await;
        client.request(json!({ "op": "history", "room": room })).await;
        for path in ["", "/messages", "/subscriptions"] {
            rest.get(&format!("/v1/rooms/{room}{path}")).await;
        }
    }
    rest.get("/v1/rooms").await.with(200);
    let id = client.publish("well", json!("still")).await;
    let came = loop {
        let frame = client.next().await;
        if frame["room"] == "well" {
            break frame;
        }
    };
    assert_eq!(came["id"], json!(id));
    rest.get("/readyz").await.with(200);
    assert!(!server.log().iter().any(|line| line.contains("panicked")), "{:?}", server.log());
}

/// Rules: token-1, code-7.
#[tokio::test]
async fn a_token_for_one_room_grants_no_other() {
    let (_redis, server) = redis_and_server().await;
    let mut owner = Client::connect(&server, &everything("ann")).await;
    for room in ["chat.one", "chat.two", "chat.one.deeper", "@ann"] {
        owner.publish(room, json!(1)).await;
    }
    let narrow = token("eve", json!({ "chat.one": ["read"] }));
    let (mut eve, rest) = (Client::connect(&server, &narrow).await, Rest::new(&server, &narrow));
    eve.subscribe("chat.one", json!({ "since": "0" })).await;
    for room in ["chat.two", "chat.one.deeper", "@ann", "Chat.one"] {
        for op in ["subscribe", "history", "publish", "signal"] {
            let frame = json!({ "op": op, "room": room, "data": 1, "type": "t" });
            assert_eq!(eve.error(frame).await, "forbidden", "{op} {room}");
        }
        for path in ["", "/messages", "/events", "/subscriptions"] {
            rest.get(&format!("/v1/rooms/{room}{path}")).await.problem(403, "forbidden");
        }
        rest.delete(&format!("/v1/rooms/{room}")).await.problem(403, "forbidden");
        let take = json!({ "durable": "phone" });
        rest.post(&format!("/v1/rooms/{room}/subscriptions"), &take).await.problem(403, "forbidden");
    }
    assert_eq!(eve.error(json!({ "op": "publish", "room": "chat.one", "data": 1 })).await, "forbidden");
    rest.get("/v1/rooms").await.problem(403, "forbidden");
    rest.post("/v1/revocations", &json!({ "user": "ann" })).await.problem(403, "forbidden");
}

#[tokio::test]
async fn the_printed_configuration_has_no_secrets() {
    let env = [
        ("ROOMLOG_AUTH__HS256_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ("ROOMLOG_REDIS__URL", "redis://ann:hunter2@127.0.0.1:1"),
        ("ROOMLOG_AUTH__JWKS_URL", "http://ann:hunter2@127.0.0.1:1/?key=hunter2"),
    ];
    let printed = run(&["config", "--effective"], &env).await.success();
    assert!(printed.contains("***") && !printed.contains("hunter2"), "{printed}");
    let failed = run(&["serve", "--listen", "127.0.0.1:0"], &env).await.failure();
    assert!(!failed.contains("hunter2"), "{failed}");
}

/// Finds the tests that `SECURITY.md` names: ``it::file::name`` for those of this folder,
/// ``src/file.rs::name`` for others.
#[test]
fn every_test_named_in_security_md_exists() {
    let page = repository("SECURITY.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for named in page.split('`').skip(1).step_by(2).filter(|code| code.contains("::")) {
        let (place, name) = named.rsplit_once("::").unwrap();
        let files = match place.strip_prefix("it::") {
            Some(module) => {
                let module = module.replace("::", "/");
                vec![format!("tests/it/{module}.rs"), format!("tests/it/{module}/mod.rs")]
            }
            None => vec![place.to_owned()],
        };
        let source: String =
            files.iter().filter_map(|file| std::fs::read_to_string(root.join(file)).ok()).collect();
        assert!(source.contains(&format!("fn {name}(")), "there is no {named}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
