//! The Rust client: publishing exactly once through its outbox, and the life of its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use roomlog_client::{
    Client, ConnectOptions, Connection, Error, ErrorCode, Event, MessageId, NewMessage, PublishError,
    RoomName, Start, State, TailOptions,
};
use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, Dice, Redis, Rest, Server, admin, eventually, everything, free_port, now, redis_and_server,
    sign, soon, token, token_for,
};
use crate::tails::read;

/// Options with short pauses.
fn brisk() -> ConnectOptions {
    ConnectOptions {
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_millis(400),
        ..ConnectOptions::default()
    }
}

fn connect_to(url: &str, token: &str) -> Connection {
    Client::new(url, Some(token)).unwrap().connect(brisk())
}

pub fn connect(server: &Server) -> Connection {
    connect_to(&server.url(), &everything("ann"))
}

pub fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// Returns the data and the ids of all messages of a room, in order.
async fn stored(server: &Server, room: &str) -> (Vec<Value>, Vec<MessageId>) {
    let rest = Rest::new(server, &everything("reader"));
    let (mut data, mut ids, mut after) = (Vec::new(), Vec::new(), "0".to_owned());
    loop {
        let path = format!("/v1/rooms/{room}/messages?after={after}&limit=1000");
        let page = rest.get(&path).await.with(200);
        for message in page["messages"].as_array().unwrap() {
            data.push(message["data"].clone());
            after = message["id"].as_str().unwrap().to_owned();
            ids.push(after.parse().unwrap());
        }
        if page["more"] == false {
            return (data, ids);
        }
    }
}

pub fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!(number)).collect()
}

#[tokio::test]
async fn messages_wait_for_a_server_that_is_down() {
    let redis = Redis::start().await;
    let address = format!("127.0.0.1:{}", free_port());
    let connection = connect_to(&format!("http://{address}"), &everything("ann"));
    let publications: Vec<_> =
        (0..20).map(|number| connection.room(room("room")).publish(json!(number))).collect();
    eventually("an attempt fails", async || matches!(connection.state(), State::Waiting { .. })).await;
    assert_eq!(connection.waiting(), 20);
    let server = Server::at(&address, &redis.url()).await;
    let published = soon("they are confirmed", join_all(publications)).await;
    let (data, ids) = stored(&server, "room").await;
    assert_eq!(data, numbers(20));
    let confirmed: Vec<_> = published.into_iter().map(|published| published.unwrap().id).collect();
    assert_eq!(confirmed, ids);
    assert_eq!(connection.waiting(), 0);
}

/// Kills the server again and again, between sending and confirmations. Every message is stored once and in
/// order, and a reader over the same connection gets each once and in order.
#[tokio::test]
async fn a_killed_server_loses_repeats_and_reorders_nothing() {
    const ROOMS: usize = 5;
    const MESSAGES: usize = 150;
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("the seed is {seed}");
    let mut dice = Dice::new(seed);
    let (redis, mut server) = redis_and_server().await;
    let address = server.address.to_string();
    let connection = connect(&server);
    let mut tail = connection.room(room("room0")).tail(Some(Start::Oldest)).await.unwrap();

    let confirmed = Arc::new(AtomicUsize::new(0));
    let publications = (0..MESSAGES).flat_map(|number| (0..ROOMS).map(move |name| (name, number)));
    let publications: Vec<_> = publications
        .map(|(name, number)| {
            let (publication, confirmed) =
                (connection.room(room(&format!("room{name}"))).publish(json!(number)), confirmed.clone());
            async move {
                let published = publication.await.unwrap();
                confirmed.fetch_add(1, Ordering::Relaxed);
                (name, published.id)
            }
        })
        .collect();
    let writing = tokio::spawn(join_all(publications));
    let reading = tokio::spawn(async move { read(&mut tail, MESSAGES).await });
    for _ in 0..5 {
        let target = confirmed.load(Ordering::Relaxed) + dice.between(1, 120) as usize;
        eventually("more are confirmed", async || {
            confirmed.load(Ordering::Relaxed) >= target.min(ROOMS * MESSAGES)
        })
        .await;
        server.kill();
        drop(server);
        server = Server::at(&address, &redis.url()).await;
    }
    let published = soon("all are confirmed", writing).await.unwrap();
    assert_eq!(soon("all are read", reading).await.unwrap(), numbers(MESSAGES));
    for name in 0..ROOMS {
        let (data, ids) = stored(&server, &format!("room{name}")).await;
        assert_eq!(data, numbers(MESSAGES));
        let confirmed = published.iter().filter(|(of, _)| *of == name).map(|(_, id)| *id);
        assert_eq!(confirmed.collect::<Vec<_>>(), ids);
    }
}

#[tokio::test]
async fn final_refusals_are_reported_and_hold_nothing_up() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__MAX_MESSAGE", "1000")]).await;
    let token = token("ann", json!({ "room": ["read", "write"], "news": ["read"] }));
    let connection = connect_to(&server.url(), &token);
    let (own, news) = (connection.room(room("room")), connection.room(room("news")));
    let refusal = async |publication: roomlog_client::Publication| match soon("an answer", publication).await
    {
        Err(PublishError::Refused(failure)) => failure.code,
        outcome => panic!("{outcome:?}"),
    };
    let first = own.publish(1);
    // The last one is above what the server accepts as a frame, and would cost the connection.
    let refused = [news.publish(1), own.publish("x".repeat(1001)), own.publish("x".repeat(20_000))];
    let untyped = NewMessage { kind: Some(String::new()), ..NewMessage::new(room("room"), json!(1)) };
    let untyped = connection.publish(untyped);
    let last = own.publish(2);
    let [forbidden, large, huge] = refused;
    assert_eq!(refusal(forbidden).await, ErrorCode::Forbidden);
    assert_eq!(refusal(large).await, ErrorCode::TooLarge);
    assert_eq!(refusal(huge).await, ErrorCode::TooLarge);
    assert_eq!(refusal(untyped).await, ErrorCode::BadRequest);
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(stored(&server, "room").await.0, [json!(1), json!(2)]);
    assert_eq!(
        Rest::new(&server, &admin())
            .metric("roomlog_connections_opened_total{transport=\"websocket\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn the_rate_limit_is_waited_for() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__PUBLISH_RATE", "100")]).await;
    let connection = connect(&server);
    // More rooms than refusals in a row for which the server closes a connection for good.
    let publish = |number: usize| {
        let room = room(&format!("room{}", number % 120));
        connection.room(room).publish(json!(number))
    };
    let outcomes = soon("all are stored", join_all((0..360).map(publish))).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|published| !published.duplicate)));
    assert_eq!(connection.state(), State::Connected);
    assert_eq!(stored(&server, "room7").await.0, [json!(7), json!(127), json!(247)]);
}

#[tokio::test]
async fn a_redis_that_is_away_is_waited_for() {
    let mut redis = Redis::durable().await;
    let server = Server::on(&redis.url()).await;
    let connection = connect(&server);
    let own = connection.room(room("room"));
    own.publish(0).await.unwrap();
    redis.stop();
    let publications: Vec<_> = (1..10).map(|number| own.publish(json!(number))).collect();
    // A publish that somebody else tries is refused by now.
    let rest = Rest::new(&server, &everything("bob"));
    eventually("Redis is away", async || {
        rest.post("/v1/rooms/other/messages", &json!({ "data": 1 })).await.status == 503
    })
    .await;
    assert_eq!(connection.waiting(), 9);
    redis.start_again().await;
    let outcomes = soon("they are confirmed", join_all(publications)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(stored(&server, "room").await.0, numbers(10));
}

#[tokio::test]
async fn tokens_are_renewed_on_a_live_connection() {
    let (_redis, server) = redis_and_server().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let fetch = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let brief = token_for("ann", json!({ "*": ["read", "write"] }), Duration::from_secs(3));
        async move { Ok::<_, Error>(brief) }
    };
    let client = Client::with_tokens(&server.url(), fetch).unwrap();
    let connection = client.connect(brisk());
    let mut tail = connection.room(room("room")).tail(None).await.unwrap();
    eventually("it was renewed, several times", async || calls.load(Ordering::Relaxed) >= 5).await;
    connection.room(room("room")).publish("still here").await.unwrap();
    loop {
        match soon("an event", tail.next()).await.unwrap() {
            Event::Message(message) if message.data == "still here" => break,
            Event::Lost { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_expired_token_is_replaced_and_what_waits_goes_on() {
    let (_redis, server) = redis_and_server().await;
    let (calls, may_renew) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, permission) = (calls.clone(), may_renew.clone());
    let fetch = move || {
        let is_first = counter.fetch_add(1, Ordering::Relaxed) == 0;
        let is_allowed = permission.load(Ordering::Relaxed) > 0;
        let ttl = Duration::from_secs(if is_first { 1 } else { 3600 });
        let token = token_for("ann", json!({ "*": ["read", "write"] }), ttl);
        async move { if is_first || is_allowed { Ok(token) } else { Err("no tokens today") } }
    };
    let connection = Client::with_tokens(&server.url(), fetch).unwrap().connect(brisk());
    connection.connected().await.unwrap();
    eventually("the token has expired", async || matches!(connection.state(), State::Waiting { .. })).await;
    let publication = connection.room(room("room")).publish(1);
    eventually("there is no new one", async || {
        matches!(connection.state(), State::Waiting { error: Error::Token(_), .. })
    })
    .await;
    may_renew.store(1, Ordering::Relaxed);
    soon("it is confirmed", publication).await.unwrap();
    assert_eq!(stored(&server, "room").await.0, [json!(1)]);
}

#[tokio::test]
async fn a_connection_ends_with_a_token_that_cannot_be_renewed() {
    let (_redis, server) = redis_and_server().await;
    let everywhere = json!({ "*": ["read", "write"] });
    let brief = connect_to(&server.url(), &token_for("ann", everywhere, Duration::from_secs(1)));
    let revoked = connect_to(&server.url(), &everything("bob"));
    let mut tail = revoked.room(room("room")).tail(None).await.unwrap();
    let rest = Rest::new(&server, &admin());
    rest.post("/v1/revocations", &json!({ "user": "bob" })).await.with(204);
    for (connection, expected) in [(&brief, "token_expired"), (&revoked, "token_revoked")] {
        eventually("it has ended", async || matches!(connection.state(), State::Ended(_))).await;
        let code = |error: Error| match error {
            Error::Ended { code, .. } => code,
            Error::Refused(failure) => failure.code.to_string(),
            error => panic!("{error:?}"),
        };
        assert_eq!(code(connection.connected().await.unwrap_err()), expected);
        match connection.room(room("room")).publish(1).await {
            Err(PublishError::Unconfirmed(error)) => assert_eq!(code(error), expected),
            outcome => panic!("{outcome:?}"),
        }
        assert_eq!(connection.close(DEADLINE).await, []);
    }
    let error = loop {
        match soon("the end", tail.next()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("token_revoked"), "{error}");
    assert_eq!(tail.next().await, Err(error));
}

#[tokio::test]
async fn a_refused_token_is_explained_in_the_words_of_the_server() {
    let (_redis, server) = redis_and_server().await;
    let expired = sign(&json!({ "sub": "ann", "exp": now() - 60 }));
    let foreign = format!("{}x", everything("ann"));
    for (token, code, reason) in [
        (expired, ErrorCode::TokenExpired, "token_expired: the token expired at 20"),
        (
            foreign,
            ErrorCode::Unauthenticated,
            "unauthenticated: the token is not signed with an accepted key",
        ),
    ] {
        let client = Client::new(&server.url(), Some(&token)).unwrap();
        let connection = client.connect(brisk());
        for error in [
            client.publish(&NewMessage::new(room("room"), json!(1))).await.unwrap_err(),
            client.tail(TailOptions::new(room("room"))).await.unwrap_err(),
            connection.connected().await.unwrap_err(),
            connection.room(room("room")).tail(None).await.unwrap_err(),
        ] {
            assert!(matches!(&error, Error::Refused(failure) if failure.code == code), "{error:?}");
            assert!(error.to_string().starts_with(reason), "{error}");
        }
    }
}

#[tokio::test]
async fn a_full_outbox_says_so_and_empties() {
    let redis = Redis::start().await;
    let address = format!("127.0.0.1:{}", free_port());
    let client = Client::new(&format!("http://{address}"), Some(&everything("ann"))).unwrap();
    let options = ConnectOptions { outbox_messages: 3, outbox_bytes: 100, ..brisk() };
    let connection = client.connect(options);
    let own = connection.room(room("room"));
    let full = PublishError::OutboxFull { messages: 3, bytes: 100 };
    let waiting = [own.publish(0), own.publish("x".repeat(90))];
    assert_eq!(own.publish("x".repeat(20)).await, Err(full.clone()));
    let third = own.publish(2);
    assert_eq!(own.publish(3).await, Err(full));
    let server = Server::at(&address, &redis.url()).await;
    soon("they are confirmed", join_all(waiting)).await;
    soon("it is confirmed", third).await.unwrap();
    own.publish("x".repeat(90)).await.unwrap();
    assert_eq!(stored(&server, "room").await.0.len(), 4);
}

#[tokio::test]
async fn closing_sends_what_waits_or_returns_it() {
    let redis = Redis::start().await;
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let connection = connect_to(&url, &everything("ann"));
    let own = connection.room(room("room"));
    let publications: Vec<_> = (0..5).map(|number| own.publish(json!(number))).collect();
    let unconfirmed = connection.close(Duration::from_millis(50)).await;
    let data: Vec<_> = unconfirmed.iter().map(|message| message.data.clone()).collect();
    assert_eq!(data, numbers(5));
    for publication in publications {
        assert!(matches!(publication.await, Err(PublishError::Unconfirmed(_))));
    }
    assert!(matches!(connection.state(), State::Ended(_)));

    let server = Server::at(&address, &redis.url()).await;
    let again = connect(&server);
    // Twice: the keys are the same.
    for message in unconfirmed.iter().chain(&unconfirmed) {
        drop(again.publish(message.clone()));
    }
    assert_eq!(soon("it closes", again.close(DEADLINE)).await, []);
    assert_eq!(stored(&server, "room").await.0, numbers(5));

    let dropped = connect(&server);
    let publication = dropped.room(room("other")).publish(1);
    drop(dropped);
    soon("it is confirmed", publication).await.unwrap();
    let rest = Rest::new(&server, &admin());
    eventually("nothing is left open", async || rest.connections("websocket").await == 0).await;
}

/// A message is stored, its confirmation is lost with the server, and its key is forgotten before another server
/// is there.
#[tokio::test]
async fn a_message_is_stored_once_after_its_key_is_forgotten() {
    let redis = Redis::start().await;
    let window = [("ROOMLOG_RETENTION__DEDUPLICATION_WINDOW", "1s")];
    let mut server = Server::with(&redis.url(), &window).await;
    let address = server.address.to_string();
    let connection = connect(&server);
    connection.room(room("room")).publish(0).await.unwrap();
    redis.pause();
    let publication = connection.room(room("room")).publish(1);
    let rest = Rest::new(&server, &admin());
    eventually("it was sent to Redis, and not confirmed", async || {
        rest.metric("roomlog_publishes_total{class=\"other\",outcome=\"unavailable\"}").await >= 1.0
    })
    .await;
    server.kill();
    drop(server);
    redis.resume();
    eventually("it is stored", async || redis.ask(&["XLEN", "rl:{room}:log"]).number() == 2).await;
    eventually("its key is forgotten", async || {
        redis.ask(&["EVAL", "return #redis.call('KEYS', 'rl:{room}:keys:*')", "0"]).number() == 0
    })
    .await;
    let server = Server::at(&address, &redis.url()).await;
    let published = soon("it is confirmed", publication).await.unwrap();
    assert!(published.duplicate);
    let (data, ids) = stored(&server, "room").await;
    assert_eq!((data, ids[1]), (numbers(2), published.id));
}
