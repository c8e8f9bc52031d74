//! Nchan: a channel is a path. Subscribers get messages with ids in the subprotocol `ws+meta.nchan`, resume
//! from one, and send nothing. Publishers have a WebSocket of their own, on which each message is answered
//! with the channel's state.

use super::{Heard, Hello, Speech, Upgrade, text};

#[derive(Debug)]
pub(super) struct Subscriber {
    room: String,
    path: String,
}

#[derive(Debug)]
struct Publisher {
    room: String,
}

impl Subscriber {
    pub fn new(hello: Hello<'_>) -> Self {
        let room = hello.room.to_owned();
        let since = hello.since.filter(|since| !since.is_empty());
        let query = since.map(|since| format!("?last_event_id={since}")).unwrap_or_default();
        Self { path: format!("/sub/{room}{query}"), room }
    }
}

impl Speech for Subscriber {
    fn upgrade(&self) -> Upgrade {
        Upgrade { path: self.path.clone(), subprotocol: Some("ws+meta.nchan") }
    }

    fn publish(&mut self, _data: &str, _out: &mut Vec<u8>) {
        debug_assert!(false, "the publisher does that");
    }

    fn hear(
        &mut self,
        payload: &[u8],
        _out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        let message = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let parts = message.split_once("\n\n").and_then(|(head, data)| {
            let id = head.lines().find_map(|line| line.strip_prefix("id: "))?;
            Some((id, data))
        });
        let (id, data) = parts.ok_or_else(|| format!("a message without id: {message}"))?;
        take(Heard::Message { room: &self.room, id, data });
        Ok(())
    }

    fn publisher(&self) -> Option<Box<dyn Speech>> {
        Some(Box::new(Publisher { room: self.room.clone() }))
    }

    fn is_live_at_once(&self) -> bool {
        true
    }
}

impl Speech for Publisher {
    fn upgrade(&self) -> Upgrade {
        Upgrade { path: format!("/pub/{}", self.room), subprotocol: None }
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        text(data.as_bytes(), out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        _out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        if payload.starts_with(b"queued messages:") {
            take(Heard::Confirmed);
        } else {
            take(Heard::Refused { publish: true, why: String::from_utf8_lossy(payload) });
        }
        Ok(())
    }

    fn is_live_at_once(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dialect::testing::{hear, publish};

    #[test]
    fn clients_resume_from_message_ids() {
        let mut subscriber =
            Subscriber::new(Hello { room: "a.0", since: Some("1795339040:1"), ..Hello::default() });
        assert_eq!(subscriber.upgrade().path, "/sub/a.0?last_event_id=1795339040:1");
        for head in ["id: 1795339040:2", "id: 1795339040:2\ncontent-type: text/plain"] {
            let (heard, _) = hear(&mut subscriber, &format!("{head}\n\nx"));
            assert_eq!(heard, ["message a.0 1795339040:2 x"]);
        }
    }

    #[test]
    fn publishes_are_answered_on_their_own_connection() {
        let mut publisher = Subscriber::new(Hello { room: "a.0", ..Hello::default() }).publisher().unwrap();
        assert_eq!(publisher.upgrade().path, "/pub/a.0");
        assert_eq!(publish(&mut *publisher, "x"), ["x"]);
        let state = "queued messages: 1\r\nlast requested: 0 sec. ago\r\nlast message id: 1795339040:0";
        assert_eq!(hear(&mut *publisher, state).0, ["confirmed"]);
        assert_eq!(hear(&mut *publisher, "no").0, ["refused publish: no"]);
    }
}
