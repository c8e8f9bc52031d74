//! The queue of one send queue: parts in order, at most one pong ahead of them, and the progress of a partial
//! write.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::Sink;
use crate::telemetry::Timed;

#[derive(Debug, Clone)]
pub struct Part {
    pub bytes: Bytes,
    pub timed: Option<Timed>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// The caller is responsible for the writing.
    First,
    /// A writer is already active.
    Later,
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) parts: VecDeque<Part>,
    pub(super) bytes: usize,
    /// True if part of the first item was written: nothing may come before the rest of it.
    started: bool,
    pong: Option<usize>,
    pub(super) permits: usize,
    /// True while a task is writing, or what was last taken may not be written yet.
    pub(super) writing: bool,
    pub(super) closed: bool,
    /// True if it was closed because notices filled their reserve.
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

    pub(super) fn abandon(&mut self) {
        self.parts = VecDeque::new();
        self.bytes = 0;
        self.started = false;
        self.pong = None;
        self.closed = true;
    }
}
