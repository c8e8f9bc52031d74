//! Centrifugo's client protocol, as JSON: several replies in a frame, one per line. A room is a channel with
//! history, in which a returning client sends the offset and the epoch of the last message.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

use super::{Heard, Hello, Speech, Upgrade, text};

/// Ids of the commands that each client sends once. Its publishes all have [`PUBLISH`].
const CONNECT: u64 = 1;
const SUBSCRIBE: u64 = 2;
const PUBLISH: u64 = 3;

#[derive(Debug)]
pub(super) struct Client {
    room: String,
    recover: Option<(String, String)>,
    epoch: String,
    /// `<offset> <epoch>` of the last message.
    position: String,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u64,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Subscribed<'a> {
    #[serde(borrow, default)]
    epoch: Cow<'a, str>,
    #[serde(borrow, default)]
    publications: Vec<Publication<'a>>,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    #[serde(borrow)]
    disconnect: Option<Ended<'a>>,
    #[serde(borrow)]
    unsubscribe: Option<Ended<'a>>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(default)]
    offset: u64,
}

#[derive(Deserialize)]
struct Ended<'a> {
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
}

impl Client {
    pub fn new(hello: Hello<'_>) -> Self {
        let recover = hello.since.and_then(|since| since.split_once(' '));
        Self {
            room: hello.room.to_owned(),
            recover: recover.map(|(offset, epoch)| (offset.to_owned(), epoch.to_owned())),
            epoch: String::new(),
            position: String::new(),
        }
    }

    fn message(&mut self, room: &str, publication: &Publication<'_>, take: &mut dyn FnMut(Heard<'_>)) {
        self.position.clear();
        let _ = write!(self.position, "{} {}", publication.offset, self.epoch); // A string takes it.
        take(Heard::Message { room, id: &self.position, data: &publication.data });
    }

    fn reply(&mut self, reply: Reply<'_>, out: &mut Vec<u8>, take: &mut dyn FnMut(Heard<'_>)) {
        let Reply { id, error, subscribe, push } = reply;
        if let Some(Failure { message: why }) = error {
            return take(Heard::Refused { publish: id == PUBLISH, why });
        }
        if let Some(Push { channel, publication, disconnect, unsubscribe }) = push {
            if let Some(publication) = publication {
                self.message(&channel, &publication, take);
            }
            if let Some(Ended { reason: why }) = disconnect.or(unsubscribe) {
                take(Heard::Refused { publish: false, why });
            }
        } else if let Some(Subscribed { epoch, publications }) = subscribe {
            self.epoch = epoch.into_owned();
            let room = self.room.clone();
            publications.iter().for_each(|publication| self.message(&room, publication, take));
            take(Heard::Live);
        } else if id == PUBLISH {
            take(Heard::Confirmed);
        } else if id == 0 {
            // An empty reply is a ping.
            text(b"{}", out);
        }
    }
}

impl Speech for Client {
    fn upgrade(&self) -> Upgrade {
        Upgrade { path: "/connection/websocket".into(), subprotocol: None }
    }

    fn hello(&self, out: &mut Vec<u8>) {
        let recover = self.recover.as_ref().map(|(offset, epoch)| {
            format!(r#","recoverable":true,"recover":true,"offset":{offset},"epoch":"{epoch}""#)
        });
        let (room, recover) = (&self.room, recover.unwrap_or_default());
        let connect = format!(r#"{{"id":{CONNECT},"connect":{{}}}}"#);
        let subscribe = format!(r#"{{"id":{SUBSCRIBE},"subscribe":{{"channel":"{room}"{recover}}}}}"#);
        text(format!("{connect}\n{subscribe}").as_bytes(), out);
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        let room = &self.room;
        let command = format!(r#"{{"id":{PUBLISH},"publish":{{"channel":"{room}","data":"{data}"}}}}"#);
        text(command.as_bytes(), out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.reply(serde_json::from_slice(line).map_err(|error| error.to_string())?, out, take);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::testing::{hear, hello, publish};

    fn client(since: Option<&str>) -> Client {
        Client::new(Hello { room: "a", since, ..Hello::default() })
    }

    #[test]
    fn a_client_subscribes_publishes_and_answers_pings() {
        let mut client = client(None);
        let commands = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}";
        assert_eq!(hello(&client), [commands]);
        let replies = concat!(
            r#"{"id":1,"connect":{"client":"c","version":"6.0.0","ping":25,"pong":true}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"xyz","offset":4,"positioned":true}}"#
        );
        assert_eq!(hear(&mut client, replies).0, ["live"]);
        let command = r#"{"id":3,"publish":{"channel":"a","data":"x"}}"#;
        assert_eq!(publish(&mut client, "x"), [command]);
        let push = r#"{"push":{"channel":"a","pub":{"data":"x","info":{"client":"c"},"offset":5}}}"#;
        let replies = format!("{push}\n{{\"id\":3,\"publish\":{{}}}}");
        assert_eq!(hear(&mut client, &replies).0, ["message a 5 xyz x", "confirmed"]);
        assert_eq!(hear(&mut client, "{}"), (vec![], vec!["{}".into()]));
    }

    #[test]
    fn missed_messages_come_with_the_answer() {
        let mut client = client(Some("5 xyz"));
        assert!(hello(&client)[0].contains(r#""recoverable":true,"recover":true,"offset":5,"epoch":"xyz""#));
        let reply = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"xyz","publications":[{"data":"x","offset":6},{"data":"y","offset":7}],"recovered":true,"offset":7,"positioned":true,"was_recovering":true}}"#;
        assert_eq!(hear(&mut client, reply).0, ["message a 6 xyz x", "message a 7 xyz y", "live"]);
    }

    #[test]
    fn refusals_are_reported() {
        let denied = r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(hear(&mut client(None), denied).0, ["refused publish: permission denied"]);
        let gone = r#"{"push":{"disconnect":{"code":3012,"reason":"no pong"}}}"#;
        assert_eq!(hear(&mut client(None), gone).0, ["refused: no pong"]);
    }
}
