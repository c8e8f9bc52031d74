//! Tokens over a connection's life: renewal, expiry and revocation.

use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, SECRET, Server, Upgrade, admin, everything, now, redis_and_server,
    redis_and_servers, sign, soon, token, token_for, token_with_id,
};
use crate::keys::accepts;

/// Rules: op-8, token-3, sse-5, close-4001, code-5.
#[tokio::test]
async fn a_connection_ends_with_its_token_unless_it_is_renewed() {
    let (_redis, server) = redis_and_server().await;
    let rooms = json!({ "*": ["read", "write"] });
    const TTL: u64 = 5;
    let ends_at = now() + TTL;
    let brief = token_for("ann", rooms.clone(), Duration::from_secs(TTL));
    let mut ends = Client::connect(&server, &brief).await;
    let mut renewed = Client::connect(&server, &brief).await;
    let rest = Rest::new(&server, &brief);
    renewed.ok(json!({ "op": "auth", "token": everything("ann") })).await;

    let events = rest.events("/v1/rooms/room/events", &[]).await.unwrap();

    let goodbye = ends.expect("goodbye").await;
    assert_eq!(goodbye["code"], "token_expired");
    assert_eq!(ends.closed().await, 4001);
    assert!(now() >= ends_at, "closed before the token's end");
    events.ended().await;
    renewed.publish("room", json!(1)).await;
    crate::harness::eventually("the token is over for requests too", async || {
        rest.get("/v1/rooms/room/messages").await.status == 401
    })
    .await;
    rest.get("/v1/rooms/room/messages").await.problem(401, "token_expired");
}

/// Rules: op-8, conn-9.
#[tokio::test]
async fn renewal_keeps_the_user() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.error(json!({ "op": "auth", "token": everything("bob") })).await;
    client.error(json!({ "op": "auth", "token": "nonsense" })).await;
    assert_eq!(client.error(json!({ "op": "auth" })).await, "bad_request");
    let expired = sign(&json!({ "sub": "ann", "exp": now() - 60 }));
    assert_eq!(client.error(json!({ "op": "auth", "token": expired })).await, "token_expired");
    client.publish("room", json!(1)).await;
}

/// Rules: op-8, conn-9, out-6.
#[tokio::test]
async fn renewal_applies_the_permissions_of_the_new_token() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let mut writer = Client::connect(&server, &everything("bob")).await;
    client.join("kept").await;
    client.join("lost").await;
    client.join("@ann").await;
    client.ask(json!({ "op": "auth", "token": token("ann", json!({ "kept": ["read"] })) })).await;
    let ended = client.expect("unsubscribed").await;
    assert_eq!((&ended["room"], &ended["code"]), (&json!("lost"), &json!("forbidden")));
    assert!(client.expect("ok").await["expires"].as_u64().is_some_and(|expires| expires > now()));
    assert_eq!(client.error(json!({ "op": "publish", "room": "kept", "data": 1 })).await, "forbidden");
    assert_eq!(client.error(json!({ "op": "subscribe", "room": "lost" })).await, "forbidden");
    for room in ["lost", "@ann", "kept"] {
        writer.publish(room, json!(room)).await;
    }
    let rooms: Vec<Value> =
        client.messages(2).await.into_iter().map(|message| message["room"].clone()).collect();
    assert_eq!(rooms, ["@ann", "kept"]);
}

/// Rules: conn-8.
#[tokio::test]
async fn tokens_have_a_size_and_claims_that_are_checked_or_ignored() {
    let (_redis, server) = redis_and_server().await;
    let with = |extra: Value| {
        let mut claims = json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read"] } });
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sign(&claims)
    };
    let [long, too_long] = [5900, 6100].map(|bytes| with(json!({ "more": "x".repeat(bytes) })));
    assert!((8000..=8192).contains(&long.len()) && (8193..8400).contains(&too_long.len()));
    for (token, is_valid) in [
        (long, true),
        (too_long, false),
        (with(json!({ "nbf": now() - 10 })), true),
        (with(json!({ "nbf": now() + 30 })), false),
        (with(json!({ "aud": "chat" })), false),
        (with(json!({ "rooms": { "*": ["read", "dance"] } })), true),
    ] {
        assert_eq!(accepts(&server, &token).await, is_valid, "{token}");
    }
    // {"alg":"HS256"} and {"alg":"HS256","crit":["exp"]}
    for (header, is_valid) in
        [("eyJhbGciOiJIUzI1NiJ9", true), ("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiZXhwIl19", false)]
    {
        let signed = format!("{header}.{}", with(json!({})).split('.').nth(1).unwrap());
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert_eq!(accepts(&server, &format!("{signed}.{signature}")).await, is_valid, "{header}");
    }
}

/// Waits for the connections to be closed, and checks the time that took.
async fn closed_as_revoked(clients: &mut [Client], since: Instant) {
    for client in clients {
        client.until("goodbye").await;
        assert_eq!(client.closed().await, 4502);
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

async fn refused(server: &Server, token: &str) {
    let mut client = Client::open(server, Upgrade::default()).await.unwrap();
    assert_eq!(client.error(json!({ "op": "connect", "token": token })).await, "token_revoked");
    assert_eq!(client.expect("goodbye").await["code"], "token_revoked");
    assert_eq!(client.closed().await, 4502);
}

/// Rules: api-13, conn-5, close-4502, code-6.
#[tokio::test]
async fn a_revoked_token_ends_its_connections_on_all_nodes() {
    let (redis, [one, two]) = redis_and_servers().await;
    let bad = token_with_id("ann", json!({ "*": ["read"] }), "stolen");
    let good = token_with_id("ann", json!({ "*": ["read"] }), "fine");
    let mut ended = [Client::connect(&one, &bad).await, Client::connect(&two, &bad).await];
    let mut kept = [Client::connect(&one, &good).await, Client::connect(&two, &good).await];
    for client in &mut ended {
        client.join("room").await;
    }

    let started = Instant::now();
    let answer = Rest::new(&one, &admin()).post("/v1/revocations", &json!({ "jti": "stolen" })).await;
    assert_eq!(answer.with(204), Value::Null);
    soon("the connections close", closed_as_revoked(&mut ended, started)).await;
    for (server, client) in [&one, &two].into_iter().zip(&mut kept) {
        client.settled().await;
        refused(server, &bad).await;
        Rest::new(server, &bad).get("/v1/rooms/room/messages").await.problem(401, "token_revoked");
    }
    // A node that starts later knows of the revocation too.
    let three = Server::on(&redis.url()).await;
    refused(&three, &bad).await;
}

/// Rules: api-13, rest-5.
#[tokio::test]
async fn all_older_tokens_of_a_user_can_be_revoked() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let older = everything("ann");
    let mut ended = [Client::connect(&one, &older).await, Client::connect(&two, &older).await];
    let mut other = Client::connect(&two, &everything("bob")).await;
    let started = Instant::now();
    Rest::new(&two, &admin()).post("/v1/revocations", &json!({ "user": "ann" })).await.with(204);
    soon("the connections close", closed_as_revoked(&mut ended, started)).await;
    other.settled().await;
    refused(&one, &older).await;
    refused(&one, &sign(&json!({ "sub": "ann", "exp": now() + 60 }))).await;

    let newer = sign(&json!({ "sub": "ann", "iat": now() + 2, "exp": now() + 60 }));
    Client::connect(&one, &newer).await.settled().await;
    Rest::new(&one, &admin())
        .post("/v1/revocations", &json!({ "user": "bob", "before": now() - 100 }))
        .await
        .with(204);
    other.settled().await;
    Client::connect(&one, &everything("bob")).await;
}

/// Rules: api-13, rest-5.
#[tokio::test]
async fn revoking_needs_manage_on_all_rooms() {
    let (_redis, server) = redis_and_server().await;
    let revocation = json!({ "jti": "x" });
    for rooms in [json!({ "*": ["read", "write"] }), json!({ "chat.*": ["manage"] })] {
        let rest = Rest::new(&server, &token("eve", rooms));
        rest.post("/v1/revocations", &revocation).await.problem(403, "forbidden");
    }
    Rest::anonymous(&server).post("/v1/revocations", &revocation).await.problem(401, "unauthenticated");
    let rest = Rest::new(&server, &admin());
    for bad in
        [json!({}), json!({ "jti": 5 }), json!({ "user": "" }), json!({ "user": "ann", "before": "now" })]
    {
        rest.post("/v1/revocations", &bad).await.problem(400, "bad_request");
    }
}

/// Rules: rest-5.
#[tokio::test]
async fn revoking_a_user_covers_issuers_whose_clock_is_ahead() {
    let (_redis, server) = redis_and_server().await;
    let ahead = sign(&json!({ "sub": "ann", "iat": now() + 4, "exp": now() + 60 }));
    let mut ended = [Client::connect(&server, &ahead).await];
    let started = Instant::now();
    Rest::new(&server, &admin()).post("/v1/revocations", &json!({ "user": "ann" })).await.with(204);
    soon("the connection closes", closed_as_revoked(&mut ended, started)).await;
    refused(&server, &ahead).await;
}

#[tokio::test]
async fn revocations_are_reread_after_redis_lost_them() {
    let (redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &admin());
    let stolen = token_with_id("ann", json!({ "*": ["read"] }), "stolen");
    rest.post("/v1/revocations", &json!({ "jti": "other" })).await.with(204);
    let read = async || redis.calls("xrange");
    let before = read().await;
    crate::harness::eventually("the node has read it", async || read().await > before + 1).await;
    let mut client = Client::connect(&server, &stolen).await;
    // As after a failover to a replica that did not have it, and whose clock is behind.
    let until = (now() + 1000).to_string();
    redis.ask(&["DEL", "rl:revocations"]);
    let record = ["kind", "token", "subject", "stolen", "before", "0", "until", &until];
    redis.ask(&[&["XADD", "rl:revocations", "5-1"][..], &record[..]].concat());
    client.until("goodbye").await;
    assert_eq!(client.closed().await, 4502);
}

/// Rules: rest-5.
#[tokio::test]
async fn a_revocation_expires_with_its_token() {
    let (redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &admin());
    let expires = now() + 100;
    rest.post("/v1/revocations", &json!({ "jti": "x", "expires": expires })).await.with(204);
    let stored = redis.ask(&["XRANGE", "rl:revocations", "-", "+"]);
    let fields: Vec<String> = stored.list()[0].list()[1].list().iter().map(|field| field.text()).collect();
    let until: u64 = fields[fields.iter().position(|field| field == "until").unwrap() + 1].parse().unwrap();
    assert!((expires..expires + 60).contains(&until), "{fields:?}");
    let body = json!({ "user": "ann", "expires": expires });
    rest.post("/v1/revocations", &body).await.problem(400, "bad_request");
}

#[tokio::test]
async fn revocations_wait_for_a_replica_if_messages_do() {
    let primary = Redis::on_port(&["--appendonly", "no"]).await;
    let replica = primary.replica().await;
    let server = Server::with(&primary.url(), &[("ROOMLOG_REDIS__DURABILITY", "replica")]).await;
    let rest = Rest::new(&server, &admin());
    rest.post("/v1/revocations", &json!({ "jti": "x" })).await.with(204);
    replica.pause();
    rest.post("/v1/revocations", &json!({ "jti": "y" })).await.problem(503, "unavailable");
    replica.resume();
    rest.post("/v1/revocations", &json!({ "jti": "y" })).await.with(204);
}
