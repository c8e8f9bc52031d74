//! Each confirmed publish is in the log once, one with an unknown outcome at most once, and nothing else is.

use std::collections::HashMap;

use roomlog_protocol::MessageId;
use uuid::Uuid;

use super::{Found, Run};
use crate::model::record::{Ms, Outcome, Publish};

pub(super) fn check(run: &Run<'_>, found: &mut Found) {
    let mut places: HashMap<Uuid, Vec<MessageId>> = HashMap::new();
    for (room, log) in &run.logs {
        for message in *log {
            places.entry(message.key).or_default().push(message.id);
            let tries = run.tries.get(&message.key).map_or(&[][..], Vec::as_slice);
            if !tries.iter().any(|publish| publish.room == *room && publish.sent == message.sent) {
                found.add(
                    "nothing that nobody sent",
                    format!("{room} has {} {} {:?}", message.id, message.key, message.sent),
                );
            } else if tries.iter().all(|publish| matches!(publish.outcome, Outcome::Failed(_))) {
                found.add(
                    "what is refused is not stored",
                    format!("{room} has {} {}", message.id, message.key),
                );
            }
        }
    }
    for (key, tries) in &run.tries {
        let places = places.get(key).map_or(&[][..], Vec::as_slice);
        if places.len() > 1 {
            found.add("stored once", format!("{} has {key} at {places:?}", tries[0].room));
        }
        for publish in tries {
            let Outcome::Ok(id) = publish.outcome else { continue };
            // If a confirmed message is lost, the same key may be stored again.
            if !places.contains(&id) && !run.lossy(&run.promise.losses, publish) {
                let now = if places.is_empty() { "nowhere".into() } else { format!("{places:?}") };
                found.add(
                    "confirmed is stored",
                    format!(
                        "{}: {id} {key} confirmed by node {} at {} ms, now {now}",
                        publish.room, publish.node, publish.till
                    ),
                );
            }
        }
    }
    order(run, &places, found);
}

/// Checks that a message that was published after another was confirmed comes after it.
fn order(run: &Run<'_>, places: &HashMap<Uuid, Vec<MessageId>>, found: &mut Found) {
    let mut rooms: HashMap<&str, Vec<(Ms, Ms, MessageId)>> = HashMap::new();
    for (key, tries) in &run.tries {
        let Some([id]) = places.get(key).map(Vec::as_slice) else { continue };
        let first = tries.iter().map(|publish| publish.at).min().unwrap_or_default();
        if let Some(till) = tries.iter().filter_map(|publish| confirmed(publish, *id)).min() {
            rooms.entry(&tries[0].room).or_default().push((first, till, *id));
        }
    }
    for (room, mut all) in rooms {
        let mut by_end = all.clone();
        all.sort_unstable();
        by_end.sort_unstable_by_key(|(_, till, _)| *till);
        let (mut newest, mut ended) = (MessageId::ZERO, by_end.into_iter().peekable());
        for (first, _, id) in all {
            while let Some((_, _, before)) = ended.next_if(|(_, till, _)| *till < first) {
                newest = newest.max(before);
            }
            if id < newest {
                found.add(
                    "in the order of publishing",
                    format!("{room}: {id} was published after {newest} was confirmed"),
                );
            }
        }
    }
}

fn confirmed(publish: &Publish, at: MessageId) -> Option<Ms> {
    (publish.outcome == Outcome::Ok(at)).then_some(publish.till)
}
