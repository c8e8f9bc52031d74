//! The number of entries to request from Redis at once. Pure.
//!
//! A reply should stay near [`TARGET`]: it is held in memory, and fred parses an incomplete one again from
//! its start. `XRANGE` counts entries, not bytes, so the count follows the size of the last entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Entry;

/// Target size of a reply in bytes.
const TARGET: usize = 128 * 1024;

/// Entries of the first page. With the largest messages, they make a reply of one megabyte.
const FIRST: usize = 16;

/// Fewest and most entries of a page. The minimum is low, since each entry may have 64 KiB.
const ENTRIES: (usize, usize) = (8, 512);

#[derive(Debug)]
pub(crate) struct PageSize(AtomicUsize);

impl Default for PageSize {
    fn default() -> Self {
        Self(AtomicUsize::new(FIRST))
    }
}

impl PageSize {
    pub(crate) fn get(&self) -> usize {
        let entries = self.0.load(Ordering::Relaxed);
        // In a simulation, short logs have several pages too.
        #[cfg(test)]
        let entries = entries.min(crate::simulation::page());
        entries
    }

    pub(crate) fn learn(&self, entries: &[Arc<Entry>]) {
        if let Some(next) = next_size(entries.len(), entries.iter().map(|entry| entry.size()).sum()) {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

/// Returns the number of entries to request after `entries` took `bytes`. At most four times as many, since
/// the next may be larger.
fn next_size(entries: usize, bytes: usize) -> Option<usize> {
    let average = bytes.checked_div(entries)?.max(1);
    Some((TARGET / average).min(entries * 4).clamp(ENTRIES.0, ENTRIES.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_shrink_at_once_and_grow_gradually() {
        assert_eq!(next_size(0, 0), None);
        assert_eq!(next_size(64, 64 * 200), Some(256));
        assert_eq!(next_size(512, 512 * 200), Some(512));
        assert_eq!(next_size(64, 64 * 65_536), Some(8));
        assert_eq!(next_size(8, 8 * 200), Some(32));
    }
}
