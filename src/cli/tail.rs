//! `roomlog tail`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::Failed;
use super::output::{Output, note};
use super::remote::{Remote, advise, run};
use crate::protocol::request::{MAX_LAST, Start};
use crate::protocol::{MessageId, RoomName, SubscriptionName};
use roomlog_client::{Error, Event, Tail, TailOptions};

/// Interval at which it checks that the output still has a reader.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Prints a room's messages as they arrive, across restarts of the server, until Ctrl-C.
#[derive(Debug, Args)]
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
    remote: Remote,
}

impl Follow {
    pub(super) fn run(self) -> Result<(), Failed> {
        run(self.follow())
    }

    async fn follow(self) -> Result<(), Failed> {
        let Self { room, since, last, durable, remote } = self;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let start = since.or(last.map(|count| Start::Last(count as usize)));
        let (client, mut output) = (remote.client()?, remote.output());
        let options = TailOptions { room, start, durable };
        let mut tail = tokio::select! {
            tail = client.tail(options) => tail.map_err(advise)?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
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

async fn print(tail: &mut Tail, output: &mut Output) -> Result<(), Failed> {
    let mut lost = false;
    loop {
        match tail.next().await.map_err(advise)? {
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
