//! Unread counts against a model that counts the retained messages one by one.

use proptest::prelude::*;

use super::Redis;

#[derive(Debug, Clone)]
enum Step {
    Append,
    /// Reads up to one of the ids given so far, which may be trimmed or deleted by now.
    Read(prop::sample::Index),
    Delete(prop::sample::Index),
    /// Keeps this many messages.
    Trim(usize),
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        3 => any::<prop::sample::Index>().prop_map(Step::Read),
        2 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => (0..6usize).prop_map(Step::Trim),
        1 => Just(Step::FailOver),
    ]
}

fn seq(id: &str) -> u64 {
    id.split_once('-').expect("an id").1.parse().expect("a number")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is deleted or trimmed, the count is that of the retained messages after the position.
    #[test]
    fn unread_messages_are_those_that_a_reader_would_still_get(steps in prop::collection::vec(step(), 1..60)) {
        let mut redis = Redis::new("a");
        let (mut ids, mut kept, mut read) = (Vec::new(), Vec::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append => {
                    let id = redis.append(&number.to_string());
                    kept.push(id.clone());
                    ids.push(id);
                }
                Step::Read(index) if !ids.is_empty() => {
                    let id: &String = index.get(&ids);
                    redis.call("read_up_to", &["ann", id]);
                    read = read.max(seq(id));
                }
                Step::Delete(index) if !ids.is_empty() => {
                    let id = index.get(&ids);
                    redis.call("delete_message", &[id]);
                    kept.retain(|known| known != id);
                }
                Step::Trim(keep) if !ids.is_empty() => {
                    let head = seq(&ids[ids.len() - 1]).to_string();
                    redis.call("trim", &[&keep.to_string(), &head, ""]);
                    kept.drain(..kept.len().saturating_sub(keep));
                }
                Step::FailOver => redis = redis.fail_over(&number.to_string(), 5),
                _ => {}
            }
            let answer = redis.call("unread", &["ann"]);
            let expected = kept.iter().filter(|id| seq(id) > read).count();
            prop_assert_eq!(&answer[2], &expected.to_string(), "after step {}: {:?}", number, answer);
            prop_assert_eq!(&answer[0], ids.last().map_or("0-0", String::as_str));
            // A position is forgotten only if all messages up to it are gone.
            let oldest = kept.first().or(ids.last()).map_or(0, |id| seq(id));
            prop_assert!(!answer[1].is_empty() || read < oldest.max(1), "{answer:?}, read {read}");
        }
    }
}

#[test]
fn a_position_in_a_lost_history_counts_up_to_the_fork() {
    let mut redis = Redis::new("a");
    let shared = redis.append("1");
    let mut old = Redis::new("a");
    old.context.data = redis.context.data.clone();
    let lost = (0..3).map(|key| old.append(&key.to_string())).last().expect("an id");
    let mut redis = redis.fail_over("b", 2);
    for key in 0..4 {
        redis.append(&format!("later {key}"));
    }
    redis.call("read_up_to", &["ann", &lost]);
    let answer = redis.call("unread", &["ann"]);
    assert_eq!((&answer[1], answer[2].as_str()), (&shared, "4"));
}

#[test]
fn a_deleted_room_forgets_who_has_read_it() {
    let mut redis = Redis::new("a");
    let id = redis.append("1");
    redis.call("read_up_to", &["ann", &id]);
    redis.call("delete", &["60000"]);
    assert_eq!(redis.call("unread", &["ann"]), ["0-0", "", "0"]);
    redis.append("2");
    assert_eq!(redis.call("unread", &["ann"])[1..], ["", "1"]);
}

#[test]
fn trimming_removes_positions_that_say_nothing() {
    let mut redis = Redis::new("a");
    let ids: Vec<String> = (0..9).map(|key| redis.append(&key.to_string())).collect();
    for (user, id) in [("ann", &ids[0]), ("bob", &ids[6]), ("cia", &ids[8])] {
        redis.call("read_up_to", &[user, id]);
    }
    redis.call("trim", &["2", "9", ""]);
    let positions = ["ann", "bob", "cia"].map(|user| redis.call("unread", &[user])[1].clone());
    assert_eq!(positions, [String::new(), ids[6].clone(), ids[8].clone()]);
    assert_eq!(redis.call("unread", &["ann"])[2], "2");
}
