//! `roomlog publish`.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::Failed;
use super::output::{Output, hint, note};
use super::progress::Progress;
use super::remote::Remote;
use crate::protocol::request::DEFAULT_TYPE;
use crate::protocol::{ErrorCode, RoomName};
use roomlog_client::{Client, Error, NewMessage, Published};

/// Maximum number of lines sent at once, and of their bytes: together within the usual limits of a server.
const LINES: usize = 500;
const BYTES: usize = 512 * 1024;

/// Time during which lines are resent that the server could not store.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before lines are resent, unless the server asks for a longer one.
const PAUSE: Duration = Duration::from_millis(500);

/// Publishes one or more messages, and prints their ids.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog publish chat.general '{\"text\": \"hello\"}'
  roomlog publish jobs 'plain text' --type note
  tail -f app.log | roomlog publish logs -")]
pub(super) struct Publish {
    /// The room
    room: RoomName,
    /// The message: JSON if it reads as JSON, else text (to send such text, quote it: '"42"'). With `-`, each
    /// line of standard input is one
    #[arg(allow_negative_numbers = true)]
    data: String,
    /// The message's type
    #[arg(long = "type", value_name = "TYPE", default_value = DEFAULT_TYPE)]
    kind: String,
    /// The message's key: publishing again with the same one stores nothing new
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
    #[command(flatten)]
    remote: Remote,
}

impl Publish {
    pub(super) fn run(self) -> Result<(), Failed> {
        let output = self.remote.output();
        match (self.data.as_str(), self.key) {
            ("-", Some(_)) => Err("--key is for one message; lines get a new key each".into()),
            ("-", None) => self.remote.run(|client| self.lines(client, output)),
            _ => self.remote.run(|client| self.one(client, output)),
        }
    }

    fn message(&self, data: Value) -> NewMessage {
        let mut message = NewMessage::new(self.room.clone(), data);
        message.kind = Some(self.kind.clone());
        message
    }

    async fn one(&self, client: Client, output: Output) -> Result<(), Failed> {
        let (data, broken) = data(&self.data);
        let mut message = self.message(data);
        message.key = self.key.unwrap_or(message.key);
        match client.publish(&message).await {
            Ok(published) => print(&output, &published)?,
            // Nothing listens: surely nothing is stored, and a key would not help.
            Err(error @ Error::Refused(_)) if error.is_temporary() => {
                return Err(format!("{error}: --key {}", message.key).into());
            }
            Err(error) => return Err(error.into()),
        }
        match broken {
            Some(why) => Ok(hint(&format!(
                "stored as text, since it does not read as JSON: {why}. In a shell, put JSON into single quotes: \
                 '{{\"text\": \"hello\"}}'"
            ))?),
            None => Ok(()),
        }
    }

    async fn lines(&self, client: Client, output: Output) -> Result<(), Failed> {
        let mut lines = read_lines();
        let mut sent = Sent::new(output);
        let (mut waiting, mut refused) = (Vec::new(), 0);
        let mut broken = Vec::new();
        while lines.recv_many(&mut waiting, LINES).await > 0 {
            for batch in batches(std::mem::take(&mut waiting)) {
                let mut messages = Vec::with_capacity(batch.len());
                let mut unreadable = None;
                for Line { number, text } in batch {
                    match text {
                        Ok(text) => {
                            let (data, why) = data(&text);
                            broken.extend(why.map(|why| (number, why)));
                            messages.push((number, self.message(data)));
                        }
                        Err(error) => unreadable = Some(format!("line {number}: {error}")),
                    }
                }
                refused += send(&client, messages, &mut sent).await?;
                if let Some(why) = unreadable {
                    return Err(why.into());
                }
            }
        }
        sent.end(&self.room)?;
        match &broken[..] {
            [] => {}
            [(number, why)] => {
                hint(&format!("line {number} looks like JSON, but was stored as text: {why}"))?
            }
            [(number, why), ..] => {
                let count = broken.len();
                hint(&format!(
                    "{count} lines look like JSON, but were stored as text; the first is line {number}: {why}"
                ))?;
            }
        }
        match refused {
            0 => Ok(()),
            1 => Err("1 line was refused".into()),
            _ => Err(format!("{refused} lines were refused").into()),
        }
    }
}

/// Sends messages with their line numbers. Batches that are too large are split, and messages that the server
/// could not store are resent. Returns the number of refused messages.
async fn send(client: &Client, batch: Vec<(usize, NewMessage)>, sent: &mut Sent) -> Result<usize, Failed> {
    let (mut refused, mut told) = (0, false);
    let deadline = Instant::now() + PATIENCE;
    let mut batches = VecDeque::from([batch]);
    while let Some(mut batch) = batches.pop_front().filter(|batch| !batch.is_empty()) {
        let messages: Vec<NewMessage> = batch.iter().map(|(_, message)| message.clone()).collect();
        let mut why = None;
        let outcomes = match client.publish_all(&messages).await {
            Ok(outcomes) => outcomes,
            Err(Error::Refused(failure)) if failure.code == ErrorCode::TooLarge && batch.len() > 1 => {
                let second = batch.split_off(batch.len() / 2);
                batches.push_front(second);
                batches.push_front(batch);
                continue;
            }
            Err(Error::Refused(failure)) if failure.code == ErrorCode::TooLarge => vec![Err(failure)],
            // If nothing is published yet, a wrong address is more likely than a server that restarts.
            Err(error) if error.is_temporary() && sent.count > 0 => {
                why = Some(error);
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        let mut again = batch.split_off(outcomes.len());
        for ((number, message), outcome) in batch.into_iter().zip(outcomes) {
            match outcome.map_err(Error::from) {
                Ok(published) => sent.published(&published)?,
                Err(error) if error.is_temporary() => {
                    again.push((number, message));
                    why = why.or(Some(error));
                }
                Err(Error::Refused(failure))
                    if matches!(failure.code, ErrorCode::BadRequest | ErrorCode::TooLarge) =>
                {
                    note(&format!("line {number}: {failure}"))?;
                    refused += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(error) = why {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            if !std::mem::replace(&mut told, true) {
                note(&format!("{error}; trying again"))?;
            }
            let asked = Duration::from_millis(error.retry_after_ms().unwrap_or_default());
            tokio::time::sleep(asked.max(PAUSE)).await;
        }
        if !again.is_empty() {
            batches.push_front(again);
        }
    }
    Ok(refused)
}

struct Line {
    number: usize,
    text: io::Result<String>,
}

/// Reads lines on a detached thread. Empty lines are skipped.
fn read_lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for (index, text) in io::stdin().lock().lines().enumerate() {
            let is_empty = text.as_ref().is_ok_and(|text| text.trim().is_empty());
            let ends = text.is_err();
            let line = Line { number: index + 1, text };
            if !is_empty && sender.blocking_send(line).is_err() || ends {
                return;
            }
        }
    });
    receiver
}

/// Splits lines into batches that are not too large. A line that is too large by itself gets a batch of its
/// own.
fn batches(lines: Vec<Line>) -> Vec<Vec<Line>> {
    let mut batches: Vec<Vec<Line>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        let length = line.text.as_ref().map_or(0, String::len);
        bytes += length;
        match batches.last_mut() {
            Some(batch) if bytes <= BYTES => batch.push(line),
            _ => {
                batches.push(vec![line]);
                bytes = length;
            }
        }
    }
    batches
}

/// Returns the data of a message: JSON, or else text. If the text looks like JSON, also returns why it is not.
fn data(text: &str) -> (Value, Option<String>) {
    let error = match serde_json::from_str(text) {
        Ok(value) => return (value, None),
        Err(error) => error,
    };
    let looks_like_json = text.trim_start().starts_with(['{', '[', '"']);
    (Value::String(text.to_owned()), looks_like_json.then(|| error.to_string()))
}

fn print(output: &Output, published: &Published) -> io::Result<()> {
    match (output.is_for_people(), published.duplicate) {
        (false, _) => output.json(published),
        (true, false) => output.line(&published.id.to_string()),
        (true, true) => output.line(&format!("{} duplicate: the key was known", published.id)),
    }
}

/// The lines that are stored.
struct Sent {
    output: Output,
    count: usize,
    /// Whether only their number is printed, at the end.
    counts_only: bool,
    progress: Progress,
}

impl Sent {
    fn new(output: Output) -> Self {
        let counts_only = output.is_for_people() && !io::stdin().is_terminal();
        let progress = if counts_only { Progress::new("messages") } else { Progress::hidden() };
        Self { output, count: 0, counts_only, progress }
    }

    fn published(&mut self, published: &Published) -> io::Result<()> {
        self.count += 1;
        if !self.counts_only {
            print(&self.output, published)?;
        }
        self.progress.show(self.count)
    }

    fn end(&mut self, room: &RoomName) -> io::Result<()> {
        self.progress.clear()?;
        if !self.counts_only {
            return Ok(());
        }
        let words = if self.count == 1 { "1 message" } else { &format!("{} messages", self.count) };
        self.output.line(&format!("published {words} to {room}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_json_if_it_parses_and_text_otherwise() {
        for (text, value) in [
            ("{\"a\": 1}", json!({ "a": 1 })),
            ("42", json!(42)),
            ("\"42\"", json!("42")),
            ("hello world", json!("hello world")),
            ("{a}", json!("{a}")),
            ("", json!("")),
        ] {
            assert_eq!(data(text).0, value);
        }
        for (text, is_broken) in [("{text: hello}", true), ("[1,", true), ("hello", false), ("[1]", false)] {
            assert_eq!(data(text).1.is_some(), is_broken, "{text}");
        }
    }

    #[test]
    fn batches_stay_small_and_keep_the_order() {
        let lines = |lengths: &[usize]| {
            let line = |(number, length): (usize, &usize)| Line { number, text: Ok("x".repeat(*length)) };
            lengths.iter().enumerate().map(line).collect::<Vec<_>>()
        };
        let numbers = |lengths: &[usize]| -> Vec<Vec<usize>> {
            let batches = batches(lines(lengths));
            batches.iter().map(|batch| batch.iter().map(|line| line.number).collect()).collect()
        };
        assert_eq!(numbers(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(numbers(&[1, 2, 3]), [[0, 1, 2]]);
        assert_eq!(numbers(&[1, BYTES, BYTES * 2, 1, 1]), vec![vec![0], vec![1], vec![2], vec![3, 4]]);
    }
}
