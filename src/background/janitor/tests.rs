//! Tests of a pass over due rooms, on a scripted Redis.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Config;
use crate::node::Simulated;
use crate::redis::scripted::{Call, Reply, Script};

const NOW: i64 = 1_700_000_000_000;

/// One room is due. It has 5 messages of a limit of 3.
fn redis(call: &Call) -> Reply {
    let now = Reply::Int(NOW);
    match call.name.as_str() {
        "take" => Reply::List(vec![now, "again".into(), Reply::from(["chat"])]),
        "look" => {
            let (newest, oldest) = (format!("{NOW}-5"), format!("{NOW}-1"));
            let [length, bytes, subscriptions] = [5, 500, 0].map(Reply::Int);
            let (head, first) = (Reply::Text(newest), Reply::Text(oldest));
            Reply::List(vec![now, head, first, length, bytes, subscriptions, Reply::Nil, Reply::Nil])
        }
        "trim" => Reply::List(vec![Reply::Int(2), Reply::Text(format!("{NOW}-3")), Reply::Int(1)]),
        _ => Reply::Int(1),
    }
}

async fn pass_over(script: &Script) {
    let node = Simulated::scripted(script, &[]).await;
    let rooms = toml::from_str::<toml::Table>(
        "rooms = [{ match = \"*\", max_age = \"0s\", max_length = 3, max_bytes = 0, label = \"other\", keep_unacked = true }]",
    );
    let overrides = vec![("rooms".to_owned(), rooms.unwrap().remove("rooms").unwrap())];
    let config = Config::load(None, std::iter::empty(), overrides).unwrap();
    let (store, metrics) = (node.store.clone(), node.shared.metrics.clone());
    let janitor = Janitor::new("node".into(), store, config.retention, config.rooms, metrics);
    let mut state = State { swept: Some(Instant::now()), ..State::default() };
    pass(&janitor, &mut state, &mut [Brake::default()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_due_room_is_trimmed_to_its_limits_and_due_again_at_once() {
    let script = Script::new(redis);
    pass_over(&script).await;
    assert_eq!(script.calls("trim")[0].args, ["3", "5", ""]);
    assert_eq!(script.calls("settle")[0].args, ["again", "chat", &NOW.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_examined_stays_due() {
    let script = Script::new(|call| if call.name == "look" { Reply::Lost } else { redis(call) });
    pass_over(&script).await;
    assert!(script.calls("trim").is_empty());
    assert_eq!(script.calls("settle")[0].args, ["again"]);
}
