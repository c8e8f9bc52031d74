//! Tests of gathering and of time limits, on a scripted Redis.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::node::Simulated;
use crate::protocol::Data;
use crate::redis::scripted::{Call, Reply, Script};

fn draft() -> Draft {
    Draft { key: uuid::Uuid::new_v4(), new_key: true, kind: "message".into(), data: Data::NIL }
}

async fn appender(script: &Script) -> Arc<Appender> {
    let Simulated { store, hub, shared } = &*Simulated::scripted(script, &[]).await;
    Appender::new(store.clone(), hub.clone(), Duration::from_secs(2), shared.metrics.clone())
}

fn append(call: &Call) -> Reply {
    let count = (call.args.len() - 2) / 5;
    let ids = (1..=count).map(|seq| Reply::from(&*format!("1-{seq}")));
    Reply::List([Reply::from("1"), Reply::from("0-0")].into_iter().chain(ids).collect())
}

#[tokio::test(start_paused = true)]
async fn messages_gather_while_an_append_to_their_room_is_in_progress() {
    let script = Script::new(append);
    let appender = appender(&script).await;
    let room: RoomName = "chat".parse().unwrap();
    let appends: Vec<_> = (0..300).map(|_| appender.append(&room, "ann".parse().unwrap(), draft())).collect();
    for appended in futures_util::future::join_all(appends).await {
        assert!(appended.is_ok());
    }
    let sizes: Vec<usize> = script.calls("append").iter().map(|call| (call.args.len() - 2) / 5).collect();
    assert_eq!((sizes, appender.waiting()), (vec![256, 44], 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_redis_does_not_confirm_fails_in_time_and_frees_its_room() {
    let script = Script::new(|call| {
        let is_lost = call.args.last().is_some_and(|data| data == "\u{1}");
        if is_lost { Reply::Lost } else { append(call) }
    });
    let appender = appender(&script).await;
    let room: RoomName = "chat".parse().unwrap();
    let lost = Draft { data: Data::from_json("1").unwrap(), ..draft() };
    let started = Instant::now();
    assert_eq!(appender.append(&room, "ann".parse().unwrap(), lost).await, Err(Unavailable));
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(appender.append(&room, "ann".parse().unwrap(), draft()).await.is_ok());
    assert_eq!(appender.waiting(), 0);
}
