//! Socket.IO, protocol version 5 over Engine.IO 4: packets are text with a digit or two before their JSON. A
//! client that returns within the server's time limit is recovered if it sends its private id and the offset
//! of the last message.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Heard, Hello, Speech, Upgrade, text};

/// Ids of packets to be acknowledged. Publishes share one, since only their count matters.
const SUBSCRIBE: &str = "1";
const PUBLISH: &str = "2";

#[derive(Debug)]
pub(super) struct Client {
    room: String,
    /// The previous private id, and the offset of the last message.
    recover: Option<(String, String)>,
    /// The current private id, if the server recovers clients.
    private_id: Option<String>,
    /// `<private id> <offset>` of the last message.
    position: String,
}

/// The server's data on connecting.
#[derive(Deserialize)]
struct Connected<'a> {
    #[serde(borrow)]
    pid: Option<Cow<'a, str>>,
}

impl Client {
    pub fn new(hello: Hello<'_>) -> Self {
        let recover = hello.since.and_then(|since| since.split_once(' '));
        Self {
            room: hello.room.to_owned(),
            recover: recover.map(|(id, offset)| (id.to_owned(), offset.to_owned())),
            private_id: None,
            position: String::new(),
        }
    }

    fn connected(&mut self, packet: &str, out: &mut Vec<u8>) -> Result<bool, String> {
        let connected: Connected<'_> = json(packet)?;
        self.private_id = connected.pid.map(Cow::into_owned);
        // With an unchanged private id, the client has got everything that it missed, and is in its rooms.
        let before = self.recover.as_ref().map(|(id, _)| id);
        let is_recovered = before.is_some() && before == self.private_id.as_ref();
        if !is_recovered {
            text(format!(r#"42{SUBSCRIBE}["subscribe","{}"]"#, self.room).as_bytes(), out);
        }
        Ok(is_recovered)
    }

    fn message(&mut self, packet: &str, take: &mut dyn FnMut(Heard<'_>)) -> Result<(), String> {
        type Event<'a> = (Cow<'a, str>, Cow<'a, str>, Cow<'a, str>);
        type Recoverable<'a> = (Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, Cow<'a, str>);
        // The missed messages arrive before the packet that reports the recovery.
        let private_id = self.private_id.as_ref().or(self.recover.as_ref().map(|(id, _)| id));
        let (room, data) = match private_id {
            Some(private_id) => {
                let (_, room, data, offset): Recoverable<'_> = json(packet)?;
                self.position.clear();
                self.position.extend([private_id, " ", &*offset]);
                (room, data)
            }
            None => {
                let (_, room, data): Event<'_> = json(packet)?;
                (room, data)
            }
        };
        take(Heard::Message { room: &room, id: &self.position, data: &data });
        Ok(())
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))
}

impl Speech for Client {
    fn upgrade(&self) -> Upgrade {
        Upgrade { path: "/socket.io/?EIO=4&transport=websocket".into(), subprotocol: None }
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        text(format!(r#"42{PUBLISH}["publish","{}","{data}"]"#, self.room).as_bytes(), out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        let packet = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let kind = packet.find(|c: char| !c.is_ascii_digit()).unwrap_or(packet.len());
        match packet.split_at(kind) {
            ("42", event) => return self.message(event, take),
            ("2", "") => text(b"3", out),
            ("0", _) => match &self.recover {
                Some((id, offset)) => {
                    text(format!(r#"40{{"pid":"{id}","offset":"{offset}"}}"#).as_bytes(), out);
                }
                None => text(b"40", out),
            },
            ("40", told) => {
                if self.connected(told, out)? {
                    take(Heard::Live);
                }
            }
            (acknowledged, _) => match acknowledged.strip_prefix("43") {
                Some(SUBSCRIBE) => take(Heard::Live),
                Some(PUBLISH) => take(Heard::Confirmed),
                _ => take(Heard::Refused { publish: false, why: packet.into() }),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::testing::{hear, publish};

    fn client(since: Option<&str>) -> Client {
        Client::new(Hello { room: "a", since, ..Hello::default() })
    }

    fn heard(client: &mut Client, packet: &str) -> (Vec<String>, Vec<String>) {
        hear(client, packet)
    }

    #[test]
    fn a_client_connects_joins_publishes_and_answers_pings() {
        let mut client = client(None);
        let (_, said) = heard(&mut client, r#"0{"sid":"s","pingInterval":25000}"#);
        assert_eq!(said, ["40"]);
        let (_, said) = heard(&mut client, r#"40{"sid":"t"}"#);
        assert_eq!(said, [r#"421["subscribe","a"]"#]);
        assert_eq!(heard(&mut client, "431[]").0, ["live"]);
        assert_eq!(publish(&mut client, "x"), [r#"422["publish","a","x"]"#]);
        assert_eq!(heard(&mut client, "432[]").0, ["confirmed"]);
        assert_eq!(heard(&mut client, r#"42["message","a","x"]"#).0, ["message a  x"]);
        assert_eq!(heard(&mut client, "2").1, ["3"]);
        assert_eq!(heard(&mut client, r#"44{"message":"no"}"#).0, [r#"refused: 44{"message":"no"}"#]);
    }

    #[test]
    fn only_members_that_were_not_recovered_join_again() {
        let mut first = client(None);
        heard(&mut first, r#"40{"sid":"t","pid":"p"}"#);
        assert_eq!(heard(&mut first, r#"42["message","a","x","1-0"]"#).0, ["message a p 1-0 x"]);

        let mut back = client(Some("p 1-0"));
        assert_eq!(heard(&mut back, "0{}").1, [r#"40{"pid":"p","offset":"1-0"}"#]);
        assert_eq!(heard(&mut back, r#"42["message","a","y","2-0"]"#).0, ["message a p 2-0 y"]);
        assert_eq!(heard(&mut back, r#"40{"sid":"t","pid":"p"}"#), (vec!["live".into()], vec![]));

        let mut stranger = client(Some("p 1-0"));
        let (heard, said) = heard(&mut stranger, r#"40{"sid":"t","pid":"q"}"#);
        assert_eq!((heard.len(), said.as_slice()), (0, &[r#"421["subscribe","a"]"#.to_owned()][..]));
    }
}
