//! Tests of single functions of the library, in situations that a schedule would rarely reach.

mod reads;

use super::*;

struct Redis {
    library: Library,
    context: Context,
}

impl Redis {
    fn new(history: &str) -> Self {
        let history = format!("{history:0<40}");
        let context = Context { time_us: 1_700_000_000_000_000, ..Context::new(Data::default(), history) };
        Self { library: Library::load(None).expect("the library can be loaded"), context }
    }

    /// Moves the data to a server with another history, whose clock is `later` ms ahead (behind if negative).
    fn fail_over(self, history: &str, later: i64) -> Self {
        let time_us = self.context.time_us.wrapping_add_signed(later * 1000);
        let library = Library::load(None).expect("the library can be loaded");
        let context = Context { time_us, ..Context::new(self.context.data, format!("{history:0<40}")) };
        Self { library, context }
    }

    fn run(&mut self, words: &[&str]) -> Reply {
        let mut written = Words::default();
        words.iter().for_each(|word| written.push(word.as_bytes()));
        self.library.run(0, &mut self.context, &written)
    }

    fn call(&mut self, function: &str, args: &[&str]) -> Vec<String> {
        let name = Functions::default().name(function);
        let words = [&["FCALL", &name, "1", "rl:{room}:log"], args].concat();
        match self.run(&words) {
            Reply::Array(items) => items.iter().map(text).collect(),
            other => vec![text(&other)],
        }
    }

    fn append(&mut self, key: &str) -> String {
        self.context.time_us += 1000;
        self.call("append", &["60000", "0", key, "0", "ann", "message", "x"]).pop().expect("an id")
    }

    /// Returns the id after which a reader at a position of an epoch continues, if the log does not have the
    /// position.
    fn fork(&mut self, position: &str, epoch: &str) -> Option<String> {
        self.call("locate", &[position, &format!("{epoch:0<16}")]).into_iter().nth(1)
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_position_before_the_newest_messages_stays_when_the_first_of_them_is_deleted() {
    let mut redis = Redis::new("a");
    let ids: Vec<String> = ["1", "2", "3", "4"].iter().map(|key| redis.append(key)).collect();
    assert_eq!(redis.call("before_last", &["2", "+"]), [ids[1].as_str(), "0"]);
    redis.call("delete_message", &[&ids[2]]);
    assert_eq!(redis.fork(&ids[1], ""), None);
    assert_eq!(redis.call("before_last", &["2", "+"]), [ids[0].as_str(), "0"]);
    assert_eq!(redis.call("before_last", &["1", "+"])[0], format!("{}-3", ids[3].split_once('-').unwrap().0));
}

#[test]
fn a_position_of_an_unknown_history_shares_nothing_with_the_log() {
    let lost = {
        let mut redis = Redis::new("a");
        (0..3).map(|key| redis.append(&key.to_string())).last().expect("an id")
    };
    // Another server began with the empty room, earlier or later by its clock, and has appended since.
    for later in [-5000, 1] {
        let mut redis = Redis::new("a").fail_over("b", later);
        for key in 0..5 {
            redis.append(&key.to_string());
        }
        assert_eq!(redis.fork(&lost, "a"), Some("0-0".to_owned()), "{later}");
        // Nor does the position have a place if the log was trimmed there.
        let newest = redis.append("last");
        redis.call("trim", &["1", newest.split_once('-').expect("an id").1, ""]);
        assert_eq!(redis.fork(&lost, "a"), Some("0-0".to_owned()), "{later}");
    }
}

#[test]
fn a_position_of_a_replaced_history_forks_at_its_end() {
    let mut redis = Redis::new("a");
    let shared = redis.append("1");
    let mut old = Redis::new("a");
    old.context.data = redis.context.data.clone();
    let lost = (0..3).map(|key| old.append(&key.to_string())).last().expect("an id");
    let mut redis = redis.fail_over("b", 2);
    let next = redis.append("2");
    assert_eq!(redis.fork(&lost, "a"), Some(shared.clone()));
    assert_eq!(redis.fork(&shared, "a"), None);
    assert_eq!(redis.fork(&next, "b"), None);
}
