//! A reader of Server-Sent Events.

use reqwest::Response;
use serde_json::Value;

use super::DEADLINE;
use tokio::time::timeout;

#[derive(Debug)]
pub struct Events {
    response: Response,
    text: String,
}

/// One event, or a comment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// `id:`
    pub id: Option<String>,
    /// `event:`
    pub name: Option<String>,
    /// `data:`, read as JSON; null if there is none.
    pub data: Value,
    /// Number of lines that begin with a colon.
    pub comments: usize,
}

impl Events {
    pub fn new(response: Response) -> Self {
        Self { response, text: String::new() }
    }

    /// Returns the next event, skipping comments.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = self.block().await.expect("the stream goes on");
            if event.data != Value::Null {
                return event;
            }
        }
    }

    /// Returns the next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }

    pub async fn comment(&mut self) {
        while self.block().await.expect("the stream goes on").comments == 0 {}
    }

    /// Waits for the end of the stream.
    pub async fn ended(mut self) {
        while self.block().await.is_some() {}
    }

    /// Returns the event before the next empty line. `None` at the end, or if nothing comes within
    /// [`DEADLINE`]. Cancel safe.
    pub async fn block(&mut self) -> Option<Event> {
        let end = loop {
            match self.text.find("\n\n") {
                Some(end) => break end,
                None => {
                    let chunk = timeout(DEADLINE, self.response.chunk()).await.ok()?.ok()??;
                    self.text.push_str(std::str::from_utf8(&chunk).unwrap());
                }
            }
        };
        let block: String = self.text.drain(..end + 2).collect();
        let mut event = Event::default();
        let mut data = String::new();
        for line in block.lines() {
            match line.split_once(':').unwrap_or((line, "")) {
                ("", _) => event.comments += 1,
                ("id", value) => event.id = Some(value.trim().into()),
                ("event", value) => event.name = Some(value.trim().into()),
                ("data", value) => data.push_str(value),
                _ => {}
            }
        }
        if !data.is_empty() {
            event.data = serde_json::from_str(&data).unwrap();
        }
        Some(event)
    }
}
