//! `roomlog tail`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::Failed;
use super::output::{Output, hint, note, printable};
use super::remote::Remote;
use super::times::ZoneArgs;
use crate::protocol::request::{MAX_LAST, Start};
use crate::protocol::{MessageId, RoomName, SubscriptionName};
use roomlog_client::{Client, Error, Event, Tail, TailOptions};

/// Interval at which it checks that the output still has a reader.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Prints a room's messages as they arrive, across restarts of the server, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog tail chat.general --last 10
  roomlog tail jobs --durable worker
  roomlog tail chat.general --since 0 | jq .data")]
pub(super) struct Follow {
    /// The room
    room: RoomName,
    /// Start after this message; 0 for the oldest that is retained, $ for what is new (the default)
    #[arg(long, value_name = "ID", value_parser = since, conflicts_with = "last")]
    since: Option<Start>,
    /// Start with the newest N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MAX_LAST))]
    last: Option<u64>,
    /// Use a durable subscription of this name: it starts where it ended the last time, and every message
    /// that was printed is acknowledged
    #[arg(long, value_name = "NAME")]
    durable: Option<SubscriptionName>,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    remote: Remote,
}

impl Follow {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| self.follow(client))
    }

    async fn follow(&self, client: Client) -> Result<(), Failed> {
        let mut output = self.remote.output().with_times(self.zone.times()?);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let start = self.since.or(self.last.map(|count| Start::Last(count as usize)));
        let options = TailOptions { room: self.room.clone(), start, durable: self.durable.clone() };
        let mut tail = tokio::select! {
            tail = client.tail(options.clone()) => tail?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        hint(&followed(&options, self.remote.user().as_deref()))?;
        let printed = tokio::select! {
            printed = print(&mut tail, &mut output) => printed,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            () = reader_has_gone() => Ok(()),
        };
        let closed = tail.close().await;
        printed?;
        closed.map_err(|error| {
            format!("the position could not be stored, so the last messages will come again: {error}").into()
        })
    }
}

/// Returns what is followed, from where, and how to stop.
fn followed(options: &TailOptions, user: Option<&str>) -> String {
    let TailOptions { room, start, durable } = options;
    let user = user.map_or(String::new(), |user| format!(" as {}", printable(user)));
    let place = match (start, durable) {
        (None, Some(name)) => format!("from the position of the durable subscription {name} on"),
        (None | Some(Start::New), _) => "from now on".to_owned(),
        (Some(Start::Oldest), _) => "from the oldest message on".to_owned(),
        (Some(Start::After(id)), _) => format!("from the first message after {id} on"),
        (Some(Start::Last(1)), _) => "beginning with the newest message".to_owned(),
        (Some(Start::Last(count)), _) => format!("beginning with the newest {count} messages"),
    };
    format!("Following {room}{user}, {place}. Ctrl-C stops.")
}

async fn print(tail: &mut Tail, output: &mut Output) -> Result<(), Failed> {
    let mut lost = false;
    loop {
        match tail.next().await? {
            Event::Message(message) => {
                output.message(&message)?;
                tail.ack(message.id);
            }
            Event::Gap(gap) => output.gap(&gap)?,
            Event::Lost { error, retry_in } => {
                lost = true;
                let why = match &error {
                    Error::Unreachable { cause, .. } => cause,
                    error => &error.to_string(),
                };
                note(&format!("not connected ({why}); again in {:.1} s", retry_in.as_secs_f64()))?;
            }
            Event::Subscribed { .. } if std::mem::take(&mut lost) => note("connected again")?,
            Event::Subscribed { .. } | Event::Live(_) => {}
        }
    }
}

/// Returns when standard output is a pipe whose reader has gone. Otherwise only the next message would reveal
/// that.
async fn reader_has_gone() {
    let output = io::stdout();
    loop {
        let mut asked = [PollFd::new(output.as_fd(), PollFlags::empty())];
        let answered = poll(&mut asked, PollTimeout::ZERO);
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        if answered.is_ok() && asked[0].revents().is_some_and(|events| events.intersects(gone)) {
            return;
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn since(text: &str) -> Result<Start, String> {
    match text {
        "0" => Ok(Start::Oldest),
        "$" => Ok(Start::New),
        _ => text.parse::<MessageId>().map(Start::After).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_says_what_it_follows_and_from_where() {
        let said = |start, durable: Option<&str>| {
            let durable = durable.map(|name| name.parse().unwrap());
            let options = TailOptions { room: "chat.general".parse().unwrap(), start, durable };
            followed(&options, Some("ann"))
        };
        assert_eq!(said(None, None), "Following chat.general as ann, from now on. Ctrl-C stops.");
        assert!(said(None, Some("phone")).contains("from the position of the durable subscription phone on"));
        assert!(said(Some(Start::Last(10)), None).contains("beginning with the newest 10 messages"));
        assert!(said(since("5-1").ok(), Some("phone")).contains("from the first message after 5-1 on"));
    }
}
