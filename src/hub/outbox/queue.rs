//! The queue of one outbox: parts in order, a pong before them, and what was written of the first.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::Sink;
use crate::telemetry::Timed;

/// Something to be written.
#[derive(Debug, Clone)]
pub struct Part {
    /// The bytes, complete in themselves.
    pub bytes: Bytes,
    /// What is in it, if this is where the delivery's latency is measured.
    pub timed: Option<Timed>,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Whoever queued it sees to it that it is written.
    First,
    /// Somebody does already.
    Later,
    /// There was no room for it.
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) parts: VecDeque<Part>,
    pub(super) bytes: usize,
    /// Whether some of the first part was written: nothing may come before the rest of it.
    started: bool,
    /// Where the answer to the newest ping waits.
    pong: Option<usize>,
    /// Permits that are out.
    pub(super) permits: usize,
    /// Whether a task writes, or what was taken last may still be on its way.
    pub(super) writing: bool,
    pub(super) closed: bool,
    /// Whether it ended because notices filled their reserve.
    pub(super) overrun: bool,
}

impl Queue {
    pub(super) fn add(&mut self, part: Part) -> Added {
        self.bytes += part.bytes.len();
        self.parts.push_back(part);
        self.added()
    }

    pub(super) fn added(&self) -> Added {
        if self.parts.len() == 1 && !self.writing { Added::First } else { Added::Later }
    }

    /// Puts a pong before all that has not begun to be written, in place of one that is there already.
    pub(super) fn pong(&mut self, bytes: Bytes) -> Added {
        self.bytes += bytes.len();
        let part = Part { bytes, timed: None };
        match self.pong.filter(|at| *at > 0 || !self.started) {
            Some(at) => {
                self.bytes -= self.parts[at].bytes.len();
                self.parts[at] = part;
                return Added::Later;
            }
            None => {
                let at = usize::from(self.started);
                self.parts.insert(at, part);
                self.pong = Some(at);
            }
        }
        self.added()
    }

    /// So many bytes were written.
    pub(super) fn written(&mut self, mut count: usize, sink: &dyn Sink) {
        self.bytes -= count;
        while let Some(first) = self.parts.front_mut().filter(|_| count > 0) {
            if count < first.bytes.len() {
                first.bytes.advance(count);
                self.started = true;
                return;
            }
            count -= first.bytes.len();
            self.started = false;
            self.pong = self.pong.and_then(|at| at.checked_sub(1));
            if let Some(timed) = self.parts.pop_front().and_then(|part| part.timed) {
                sink.delivered(timed);
            }
        }
    }

    /// There is nobody to write to.
    pub(super) fn abandon(&mut self) {
        self.parts = VecDeque::new();
        self.bytes = 0;
        self.started = false;
        self.pong = None;
        self.closed = true;
    }
}
