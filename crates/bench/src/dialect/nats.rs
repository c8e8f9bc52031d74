//! NATS over WebSocket: its text protocol in binary frames, which may split it anywhere. A room is a subject.
//!
//! Without a store, a publish is confirmed by the PONG to the PING after it. With JetStream, all rooms are in
//! one stream, which the server's start script has created. A publish is confirmed by the stream, and each
//! member has an ordered push consumer, set up as NATS's own clients do it.

use std::borrow::Cow;

use serde::Deserialize;
use uuid::Uuid;

use super::{Heard, Hello, Speech, Upgrade};
use crate::socket::Opcode;

/// The name of the stream. [`SUBJECTS`] is the prefix of its subjects.
const STREAM: &str = "ROOMS";
const SUBJECTS: &str = "rooms.";

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1,\"lang\":\"roomlog-bench\"}\r\n";

/// A message of the server.
struct Delivery<'a> {
    subject: &'a str,
    reply: Option<&'a str>,
    headers: &'a str,
    data: &'a str,
}

/// An operation of the server.
enum Said<'a> {
    Delivery(Delivery<'a>),
    Ping,
    Pong,
    Error(&'a str),
}

/// Reassembles operations from frames that split them anywhere.
#[derive(Debug, Default)]
struct Ear(Vec<u8>);

impl Ear {
    fn each(&mut self, payload: &[u8], mut take: impl FnMut(Said<'_>)) -> Result<(), String> {
        if self.0.is_empty() {
            let used = parse(payload, &mut take)?;
            self.0.extend_from_slice(&payload[used..]);
        } else {
            self.0.extend_from_slice(payload);
            let used = parse(&self.0, &mut take)?;
            self.0.drain(..used);
        }
        if self.0.is_empty() {
            // The waiting bytes must not count as the generator's memory.
            self.0 = Vec::new();
        }
        Ok(())
    }
}

/// Parses the complete operations, and returns their size in bytes.
fn parse(bytes: &[u8], take: &mut impl FnMut(Said<'_>)) -> Result<usize, String> {
    let mut used = 0;
    while let Some(end) = bytes[used..].windows(2).position(|two| two == b"\r\n") {
        let line = utf8(&bytes[used..used + end])?;
        let mut end = used + end + 2;
        let mut words = line.split_ascii_whitespace();
        let said = match words.next().unwrap_or_default() {
            kind @ ("MSG" | "HMSG") => {
                let Some((delivery, all)) = delivery(kind == "HMSG", line, &bytes[end..])? else {
                    return Ok(used);
                };
                end += all;
                Some(Said::Delivery(delivery))
            }
            "PING" => Some(Said::Ping),
            "PONG" => Some(Said::Pong),
            "-ERR" => Some(Said::Error(line)),
            _ => None,
        };
        said.into_iter().for_each(&mut *take);
        used = end;
    }
    Ok(used)
}

/// Parses a message from its line and the bytes after it. Returns its size in bytes too, or `None` if it is
/// incomplete.
fn delivery<'a>(
    has_headers: bool,
    line: &'a str,
    rest: &'a [u8],
) -> Result<Option<(Delivery<'a>, usize)>, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    let size = |word: Option<&&str>| -> Result<usize, String> {
        word.and_then(|word| word.parse().ok()).ok_or_else(|| format!("not understood: {line}"))
    };
    // The fields are the subject, the subscription, an optional reply subject, and the sizes.
    let (reply, sizes) = match words.get(2..).unwrap_or_default() {
        [reply, sizes @ ..] if sizes.len() > usize::from(has_headers) => (Some(*reply), sizes),
        sizes => (None, sizes),
    };
    let all = size(sizes.last())?;
    let headers = if has_headers { size(sizes.first())?.min(all) } else { 0 };
    if rest.len() < all + 2 {
        return Ok(None);
    }
    let (headers, data) = (utf8(&rest[..headers])?, utf8(&rest[headers..all])?);
    Ok(Some((Delivery { subject: words[0], reply, headers, data }, all + 2)))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn say(line: &str, out: &mut Vec<u8>) {
    Opcode::Binary.write(line.as_bytes(), out);
}

fn upgrade() -> Upgrade {
    Upgrade { path: "/".into(), subprotocol: None }
}

/// Returns the room of a subject.
fn room(subject: &str) -> &str {
    subject.strip_prefix(SUBJECTS).unwrap_or_default()
}

/// Plain subjects, without a store.
#[derive(Debug)]
pub(super) struct Core {
    room: String,
    live: bool,
    ear: Ear,
}

impl Core {
    pub fn new(hello: Hello<'_>) -> Self {
        Self { room: hello.room.to_owned(), live: false, ear: Ear::default() }
    }
}

impl Speech for Core {
    fn upgrade(&self) -> Upgrade {
        upgrade()
    }

    fn hello(&self, out: &mut Vec<u8>) {
        say(&format!("{CONNECT}SUB {SUBJECTS}{} 1\r\nPING\r\n", self.room), out);
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        say(&format!("PUB {SUBJECTS}{} {}\r\n{data}\r\nPING\r\n", self.room, data.len()), out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        let live = &mut self.live;
        self.ear.each(payload, |said| match said {
            Said::Delivery(Delivery { subject, data, .. }) => {
                take(Heard::Message { room: room(subject), id: "", data });
            }
            Said::Ping => say("PONG\r\n", out),
            Said::Pong if *live => take(Heard::Confirmed),
            Said::Pong => {
                *live = true;
                take(Heard::Live);
            }
            Said::Error(line) => take(Heard::Refused { publish: false, why: line.into() }),
        })
    }
}

/// A stream, and an ordered push consumer.
#[derive(Debug)]
pub(super) struct JetStream {
    room: String,
    /// The suffix of the subjects that only this connection uses.
    own: String,
    since: Option<u64>,
    live: bool,
    ear: Ear,
}

/// The answer to a request to JetStream.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    error: Option<Failure<'a>>,
    #[serde(default)]
    num_pending: u64,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default)]
    description: Cow<'a, str>,
}

impl JetStream {
    pub fn new(hello: Hello<'_>) -> Self {
        Self {
            room: hello.room.to_owned(),
            own: Uuid::new_v4().simple().to_string(),
            since: hello.since.and_then(|since| since.parse().ok()),
            live: false,
            ear: Ear::default(),
        }
    }

    /// Returns the configuration that the clients' ordered consumers have.
    fn consumer(&self) -> String {
        let start = match self.since {
            Some(since) => format!(r#""deliver_policy":"by_start_sequence","opt_start_seq":{}"#, since + 1),
            None => r#""deliver_policy":"new""#.to_owned(),
        };
        format!(
            r#"{{"stream_name":"{STREAM}","config":{{"deliver_subject":"deliver.{}","filter_subject":"{SUBJECTS}{}",{start},"ack_policy":"none","max_deliver":1,"replay_policy":"instant","flow_control":true,"idle_heartbeat":5000000000,"mem_storage":true,"num_replicas":1}}}}"#,
            self.own, self.room
        )
    }
}

impl Speech for JetStream {
    fn upgrade(&self) -> Upgrade {
        upgrade()
    }

    fn hello(&self, out: &mut Vec<u8>) {
        let (own, consumer) = (&self.own, self.consumer());
        let subscribe = format!("SUB deliver.{own} 1\r\nSUB _INBOX.{own}.* 2\r\n");
        let create = format!("PUB $JS.API.CONSUMER.CREATE.{STREAM} _INBOX.{own}.consumer {}", consumer.len());
        say(&format!("{CONNECT}{subscribe}{create}\r\n{consumer}\r\n"), out);
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        let Self { room, own, .. } = self;
        say(&format!("PUB {SUBJECTS}{room} _INBOX.{own}.publish {}\r\n{data}\r\n", data.len()), out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        let live = &mut self.live;
        let mut broken = Ok(());
        self.ear.each(payload, |said| match said {
            Said::Delivery(delivery) => {
                let taken = jetstream(&delivery, live, out, take);
                broken = std::mem::replace(&mut broken, Ok(())).and(taken);
            }
            Said::Ping => say("PONG\r\n", out),
            Said::Pong => {}
            Said::Error(line) => take(Heard::Refused { publish: false, why: line.into() }),
        })?;
        broken
    }
}

/// Handles a delivery of JetStream: a message, an answer, a heartbeat, or a flow control request.
fn jetstream(
    delivery: &Delivery<'_>,
    live: &mut bool,
    out: &mut Vec<u8>,
    take: &mut dyn FnMut(Heard<'_>),
) -> Result<(), String> {
    let Delivery { subject, reply, headers, data } = *delivery;
    if subject.starts_with("_INBOX.") {
        let publish = subject.ends_with(".publish");
        let answer: Answer<'_> = serde_json::from_str(data).map_err(|error| format!("{error} in {data}"))?;
        match answer.error {
            Some(Failure { description }) => take(Heard::Refused { publish, why: description }),
            None if publish => take(Heard::Confirmed),
            None if answer.num_pending == 0 && !*live => {
                *live = true;
                take(Heard::Live);
            }
            None => {}
        }
        return Ok(());
    }
    if headers.starts_with("NATS/1.0 100") {
        // Delivery continues once the flow control request is answered. A heartbeat repeats the request while
        // it is pending.
        let stalled = headers.lines().find_map(|line| line.strip_prefix("Nats-Consumer-Stalled: "));
        if let Some(subject) = reply.or(stalled) {
            say(&format!("PUB {subject} 0\r\n\r\n"), out);
        }
        return Ok(());
    }
    // $JS.ACK.<stream>.<consumer>.<deliveries>.<stream's number>.<consumer's number>.<time>.<pending>
    let mut told = reply.unwrap_or_default().split('.').skip(5);
    let (id, pending) = (told.next().unwrap_or_default(), told.nth(2).unwrap_or_default());
    take(Heard::Message { room: room(subject), id, data });
    if pending == "0" && !*live {
        *live = true;
        take(Heard::Live);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::testing::{hear, hello, publish};

    #[test]
    fn without_a_store_the_pong_confirms_publishes() {
        let mut core = Core::new(Hello { room: "a.0", ..Hello::default() });
        assert_eq!(hello(&core), [format!("{CONNECT}SUB rooms.a.0 1\r\nPING\r\n")]);
        assert_eq!(hear(&mut core, "INFO {}\r\nPONG\r\n").0, ["live"]);
        assert_eq!(publish(&mut core, "x"), ["PUB rooms.a.0 1\r\nx\r\nPING\r\n"]);
        let (heard, said) = hear(&mut core, "MSG rooms.a.0 1 1\r\nx\r\nPONG\r\nPING\r\n-ERR 'no'\r\n");
        assert_eq!(heard, ["message a.0  x", "confirmed", "refused: -ERR 'no'"]);
        assert_eq!(said, ["PONG\r\n"]);
    }

    #[test]
    fn frames_may_be_split_anywhere() {
        let all = "MSG rooms.a 1 4\r\n\r\nxy\r\nHMSG rooms.a 1 12 13\r\nNATS/1.0\r\n\r\nz\r\nPONG\r\n";
        for cut in 0..all.len() {
            let mut core = Core::new(Hello { room: "a", ..Hello::default() });
            let mut heard = hear(&mut core, &all[..cut]).0;
            heard.extend(hear(&mut core, &all[cut..]).0);
            assert_eq!(heard, ["message a  \r\nxy", "message a  z", "live"], "cut at {cut}");
        }
    }

    #[test]
    fn a_consumer_starts_after_the_last_sequence_and_is_live_when_nothing_is_pending() {
        let asked = Hello { room: "a", since: Some("41"), ..Hello::default() };
        let mut back = JetStream::new(asked);
        assert!(hello(&back)[0].contains(r#""deliver_policy":"by_start_sequence","opt_start_seq":42"#));
        let answer = r#"{"type":"x","num_pending":2}"#;
        let own = back.own.clone();
        let frame = format!("MSG _INBOX.{own}.consumer 2 {}\r\n{answer}\r\n", answer.len());
        assert_eq!(hear(&mut back, &frame).0, Vec::<String>::new());
        let frame = "MSG rooms.a 1 $JS.ACK.ROOMS.c.1.42.1.17.1 1\r\nx\r\nMSG rooms.a 1 $JS.ACK.ROOMS.c.1.44.2.17.0 1\r\ny\r\n";
        assert_eq!(hear(&mut back, frame).0, ["message a 42 x", "message a 44 y", "live"]);
    }

    #[test]
    fn the_stream_confirms_or_refuses_publishes_and_flow_control_is_answered() {
        let mut member = JetStream::new(Hello { room: "a", ..Hello::default() });
        let inbox = format!("_INBOX.{}.publish", member.own);
        assert_eq!(publish(&mut member, "x"), [format!("PUB rooms.a {inbox} 1\r\nx\r\n")]);
        for (answer, heard) in [
            (r#"{"stream":"ROOMS", "seq":1}"#, "confirmed"),
            (r#"{"error":{"code":503,"description":"no room"}}"#, "refused publish: no room"),
        ] {
            let frame = format!("MSG {inbox} 2 {}\r\n{answer}\r\n", answer.len());
            assert_eq!(hear(&mut member, &frame).0, [heard]);
        }
        let asked = "NATS/1.0 100 FlowControl Request\r\n\r\n";
        let frame = format!("HMSG deliver.x 1 $JS.FC.ROOMS.c.1 {0} {0}\r\n{asked}\r\n", asked.len());
        assert_eq!(hear(&mut member, &frame), (vec![], vec!["PUB $JS.FC.ROOMS.c.1 0\r\n\r\n".into()]));
    }
}
