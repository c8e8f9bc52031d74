//! Recovery times: the time from the end of each fault until everything worked again.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::record::{Event, Ms, Outcome};

/// Returns the recovery times with the faults' indices in the plan. A recovery time runs from the end of a
/// fault until each node has confirmed a publish to each room, and each room has delivered a message
/// published after the fault to a subscriber on each node. Faults that overlap with the next one are left
/// out.
pub fn times(events: &[Event], nodes: usize) -> Vec<(usize, Ms)> {
    let faults: Vec<(Ms, Ms, usize)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Fault { at, till, index } => Some((*at, *till, *index)),
            _ => None,
        })
        .collect();
    let timed = |&(_, till, index): &(Ms, Ms, usize)| {
        let next =
            faults.iter().filter(|fault| fault.2 != index && fault.1 > till).map(|fault| fault.0).min();
        let recovered = recovered(events, till, nodes)?;
        (next.is_none_or(|next| recovered <= next)).then_some((index, recovered - till))
    };
    faults.iter().filter_map(timed).collect()
}

fn recovered(events: &[Event], after: Ms, nodes: usize) -> Option<Ms> {
    let mut rooms = HashSet::new();
    let (mut confirmed, mut delivered) = (HashMap::new(), HashMap::new());
    let mut sessions = HashMap::new();
    let mut new: HashSet<Uuid> = HashSet::new();
    for event in events {
        match event {
            Event::Publish(publish) => {
                rooms.insert(&publish.room);
                if publish.at >= after {
                    new.insert(publish.key);
                    if matches!(publish.outcome, Outcome::Ok(_)) {
                        earliest(&mut confirmed, (publish.node, &publish.room), publish.till);
                    }
                }
            }
            Event::Opened(opened) => drop(sessions.insert(opened.session, (opened.node, &opened.room))),
            _ => {}
        }
    }
    for event in events {
        if let Event::Message { at, session, message } = event
            && *at >= after
            && new.contains(&message.key)
            && let Some(place) = sessions.get(session)
        {
            earliest(&mut delivered, *place, *at);
        }
    }
    let all = nodes * rooms.len();
    (confirmed.len() == all && delivered.len() == all)
        .then(|| confirmed.values().chain(delivered.values()).max().copied())?
}

fn earliest<K: std::hash::Hash + Eq>(times: &mut HashMap<K, Ms>, key: K, at: Ms) {
    times.entry(key).and_modify(|first| *first = at.min(*first)).or_insert(at);
}

/// Returns the median, the 90th percentile and the maximum of some times.
pub fn spread(mut times: Vec<Ms>) -> Option<(Ms, Ms, Ms)> {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    (!times.is_empty()).then(|| (at(50), at(90), at(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_of_one_time_is_that_time() {
        assert_eq!(spread(vec![7]), Some((7, 7, 7)));
        assert_eq!(spread((1..=101).collect()), Some((51, 91, 101)));
        assert_eq!(spread(Vec::new()), None);
    }
}
