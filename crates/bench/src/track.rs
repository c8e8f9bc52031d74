//! The messages that one receiver has had of its room. The publisher numbers every message, so losses,
//! duplicates and wrong order are evident. Pure.

use std::collections::BTreeSet;

/// The record of one receiver.
#[derive(Debug, Default)]
pub(super) struct Track {
    last: u64,
    missing: BTreeSet<u64>,
    pub duplicates: u64,
    /// Messages that arrived after a later one.
    pub reordered: u64,
}

impl Track {
    /// Records a message. Returns whether it is new.
    pub fn take(&mut self, number: u64) -> bool {
        if number > self.last {
            self.missing.extend(self.last + 1..number);
            self.last = number;
            return true;
        }
        let was_missing = self.missing.remove(&number);
        if was_missing {
            self.reordered += 1;
        } else {
            self.duplicates += 1;
        }
        was_missing
    }

    /// Returns the number of missing messages out of `published`.
    pub fn lost(&self, published: u64) -> u64 {
        self.missing.len() as u64 + published.saturating_sub(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(numbers: &[u64]) -> (u64, u64, u64) {
        let mut track = Track::default();
        numbers.iter().for_each(|number| {
            track.take(*number);
        });
        (track.lost(4), track.duplicates, track.reordered)
    }

    #[test]
    fn losses_duplicates_and_wrong_order_are_distinguished() {
        assert_eq!(track(&[1, 2, 3, 4]), (0, 0, 0));
        assert_eq!(track(&[1, 2]), (2, 0, 0));
        assert_eq!(track(&[1, 3, 4]), (1, 0, 0));
        assert_eq!(track(&[1, 2, 2, 3, 4]), (0, 1, 0));
        assert_eq!(track(&[2, 1, 3, 4]), (0, 0, 1));
        assert_eq!(track(&[1, 4, 2, 2, 3]), (0, 1, 2));
    }
}
