//! `roomlog history`.

use clap::Args;

use super::Failed;
use super::output::{Output, hint};
use super::progress::Progress;
use super::remote::Remote;
use super::times::ZoneArgs;
use crate::protocol::continuity::{follows, reason};
use crate::protocol::request::Range;
use crate::protocol::{MessageId, RoomName};
use crate::util::time::{now_ms, parse_ms};
use roomlog_client::{Client, Gap, Message, Page};

const PAGE: usize = 1000;

/// Prints messages of a room, oldest first. By default, prints the newest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog history chat.general --limit 20
  roomlog history chat.general --from-time 90m --local
  roomlog history chat.general --all > chat.jsonl")]
pub(super) struct History {
    /// The room
    room: RoomName,
    /// The messages after this id; 0 for the oldest that are retained
    #[arg(long, value_name = "ID", group = "from")]
    after: Option<MessageId>,
    /// The newest messages before this id
    #[arg(long, value_name = "ID", group = "from")]
    before: Option<MessageId>,
    /// The messages from this time on: 2026-01-31T12:00:00Z, Unix milliseconds, or how long ago, such as 90m
    #[arg(long, value_name = "TIME", group = "from", value_parser = time)]
    from_time: Option<u64>,
    /// Maximum number of messages
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// All messages, from the first to the last
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    remote: Remote,
}

impl History {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| self.print(client))
    }

    async fn print(&self, client: Client) -> Result<(), Failed> {
        let output = self.remote.output().with_times(self.zone.times()?);
        let mut printer = Printer { output, last: None, printed: 0 };
        let limit = if self.all { usize::MAX } else { usize::try_from(self.limit)? };
        match (self.after, self.from_time, self.before) {
            (Some(MessageId::ZERO), ..) => {
                printer.forward(&client, &self.room, Range::Oldest, limit, None).await?;
            }
            (Some(id), ..) => {
                printer.last = Some(id);
                printer.forward(&client, &self.room, Range::After(id), limit, None).await?;
            }
            (None, Some(ms), _) => {
                printer.forward(&client, &self.room, Range::FromTime(ms), limit, None).await?;
            }
            (None, None, before) if self.all => {
                printer.forward(&client, &self.room, Range::Oldest, limit, before).await?;
            }
            (None, None, before) => printer.backward(&client, &self.room, before, limit).await?,
        }
        if printer.printed == 0 {
            hint("no messages")?;
        }
        Ok(())
    }
}

/// Prints pages, and the gaps between their messages. A page reports its first gap only. Further
/// gaps show in the ids, which are dense.
struct Printer {
    output: Output,
    last: Option<MessageId>,
    printed: usize,
}

impl Printer {
    async fn forward(
        &mut self,
        client: &Client,
        room: &RoomName,
        mut range: Range,
        limit: usize,
        end: Option<MessageId>,
    ) -> Result<(), Failed> {
        while self.printed < limit {
            let page = client.history(room, range, (limit - self.printed).min(PAGE)).await?;
            for message in &page.messages {
                if end.is_some_and(|end| message.id >= end) {
                    return Ok(());
                }
                self.message(message)?;
            }
            let Some(last) = self.last.filter(|_| page.more) else {
                return self.end(&page, true);
            };
            range = Range::After(last);
        }
        Ok(())
    }

    async fn backward(
        &mut self,
        client: &Client,
        room: &RoomName,
        before: Option<MessageId>,
        limit: usize,
    ) -> Result<(), Failed> {
        let (mut pages, mut count): (Vec<Page>, usize) = (Vec::new(), 0);
        let mut range = before.map_or(Range::Newest, Range::Before);
        let mut progress = Progress::new("messages");
        while count < limit {
            let page = client.history(room, range, (limit - count).min(PAGE)).await?;
            let (first, more) = (page.messages.first().map(|message| message.id), page.more);
            count += page.messages.len();
            pages.push(page);
            progress.show(count)?;
            match first.filter(|_| more) {
                Some(first) => range = Range::Before(first),
                None => break,
            }
        }
        progress.clear()?;
        for page in pages.iter().rev() {
            page.messages.iter().try_for_each(|message| self.message(message))?;
        }
        pages.first().map_or(Ok(()), |newest| self.end(newest, before.is_none()))
    }

    fn message(&mut self, message: &Message) -> Result<(), Failed> {
        if let Some(after) = self.last.replace(message.id)
            && !follows(after, message.id)
        {
            self.output.gap(&Gap { after, next: message.id, reason: reason(after, message.id) })?;
        }
        self.output.message(message)?;
        self.printed += 1;
        Ok(())
    }

    fn end(&self, page: &Page, to_head: bool) -> Result<(), Failed> {
        let gap = match self.last {
            Some(last) if to_head && last < page.head => {
                Some(Gap { after: last, next: page.head.successor(), reason: reason(last, page.head) })
            }
            Some(last) => page.gap.filter(|gap| last < gap.next),
            None => page.gap,
        };
        Ok(gap.map_or(Ok(()), |gap| self.output.gap(&gap))?)
    }
}

fn time(text: &str) -> Result<u64, String> {
    let ago =
        || humantime::parse_duration(text).ok().map(|ago| now_ms().saturating_sub(ago.as_millis() as u64));
    parse_ms(text)
        .or_else(ago)
        .ok_or_else(|| "write it as 2026-01-31T12:00:00Z, as Unix milliseconds, or as 90m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative_to_now() {
        assert_eq!(time("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(time("2023-11-14 22:13:20"), Ok(1_700_000_000_000));
        assert!(time("1h").is_ok_and(|ms| now_ms().abs_diff(ms + 3_600_000) < 1000));
        assert!(time("yesterday").is_err());
    }
}
