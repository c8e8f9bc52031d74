//! The Rust client: following rooms over the connection that publishes too.

use futures_util::future::join_all;
use roomlog_client::{Error, Event, Tail, TailOptions};
use serde_json::{Value, json};

use crate::client::{connect, numbers, room};
use crate::harness::{Rest, everything, redis_and_server, soon};

/// Returns the data of the next messages of a tail, which must come without a gap.
pub async fn read(tail: &mut Tail, count: usize) -> Vec<Value> {
    let mut data = Vec::new();
    while data.len() < count {
        match soon("an event", tail.next()).await.unwrap() {
            Event::Message(message) => data.push(message.data),
            Event::Gap(gap) => panic!("{gap:?}"),
            Event::Subscribed { .. } | Event::Live(_) | Event::Lost { .. } => {}
        }
    }
    data
}

#[tokio::test]
async fn a_slow_reader_holds_nothing_up_and_misses_nothing() {
    const MESSAGES: usize = 4000;
    let (_redis, server) = redis_and_server().await;
    let connection = connect(&server);
    let mut slow = connection.room(room("busy")).tail(None).await.unwrap();
    let rest = Rest::new(&server, &everything("bob"));
    for start in (0..MESSAGES).step_by(1000) {
        let batch: Vec<_> =
            (start..start + 1000).map(|number| json!({ "room": "busy", "data": number })).collect();
        rest.post("/v1/messages", &json!(batch)).await.with(200);
        soon("it is confirmed", connection.room(room("other")).publish(1)).await.unwrap();
    }
    assert_eq!(read(&mut slow, MESSAGES).await, numbers(MESSAGES));
    connection.room(room("busy")).publish(json!(MESSAGES)).await.unwrap();
    assert_eq!(read(&mut slow, 1).await, [json!(MESSAGES)]);
}

#[tokio::test]
async fn a_durable_position_is_stored_when_its_reader_leaves() {
    let (_redis, server) = redis_and_server().await;
    let connection = connect(&server);
    let own = connection.room(room("room"));
    let options = TailOptions { durable: Some("phone".parse().unwrap()), ..TailOptions::new(room("room")) };
    let mut tail = connection.tail(options.clone()).await.unwrap();
    join_all((0..5).map(|number| own.publish(json!(number)))).await;
    for _ in 0..3 {
        let message = loop {
            if let Event::Message(message) = soon("a message", tail.next()).await.unwrap() {
                break message;
            }
        };
        tail.ack(message.id);
    }
    soon("it is stored", tail.close()).await.unwrap();
    let mut tail = connection.tail(options.clone()).await.unwrap();
    assert_eq!(read(&mut tail, 2).await, [json!(3), json!(4)]);
    // One connection follows a room once.
    let _newer = connection.tail(options).await.unwrap();
    let error = loop {
        match soon("the end", tail.next()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Ended { code, .. } if code == "replaced"), "{error}");
}
