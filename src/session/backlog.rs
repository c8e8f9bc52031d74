//! The messages that a client sent while the session handles an earlier frame. Bounded: while it is full, the
//! connection is not read.

use std::collections::VecDeque;

use super::inbox::Received;

/// Bytes at which it is full. The last message accepted may exceed it.
const LIMIT: usize = 64 * 1024;

/// Bytes that a message counts in addition to its length, so that empty messages count too.
const EACH: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: VecDeque<Received>,
    bytes: usize,
    over: bool,
}

impl Backlog {
    pub(super) fn has_room(&self) -> bool {
        !self.over && self.bytes < LIMIT
    }

    pub(super) fn push(&mut self, received: Received) {
        self.over |= received.is_last();
        self.bytes += size(&received);
        self.waiting.push_back(received);
    }

    pub(super) fn pop(&mut self) -> Option<Received> {
        let first = self.waiting.pop_front()?;
        self.bytes -= size(&first);
        if self.waiting.is_empty() {
            // An idle connection keeps no memory for a former backlog.
            self.waiting = VecDeque::new();
        }
        Some(first)
    }
}

fn size(received: &Received) -> usize {
    EACH + match received {
        Received::Text(bytes) | Received::Binary(bytes) | Received::Ping(bytes) => bytes.len(),
        Received::Pong | Received::Close(_) | Received::Bad(_) | Received::Gone => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_bounded_and_keeps_the_order() {
        let mut backlog = Backlog::default();
        let text = |length: usize| Received::Text(vec![b'x'; length].into());
        let mut count = 0;
        while backlog.has_room() {
            backlog.push(text(count));
            count += 1;
        }
        assert!((200..1024).contains(&count), "{count}");
        for length in 0..count {
            assert_eq!(backlog.pop(), Some(text(length)));
        }
        assert_eq!((backlog.pop(), backlog.bytes, backlog.waiting.capacity()), (None, 0, 0));
    }

    #[test]
    fn nothing_is_accepted_after_the_last_item() {
        let mut backlog = Backlog::default();
        backlog.push(Received::Close(None));
        assert!(!backlog.has_room());
        assert_eq!(backlog.pop(), Some(Received::Close(None)));
        assert!(!backlog.has_room());
    }
}
