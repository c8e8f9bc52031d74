//! `roomlog rooms`.

use std::collections::BTreeSet;

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::Failed;
use super::output::{Output, Style, hint};
use super::progress::Progress;
use super::remote::Remote;
use super::text::cut;
use super::times::{Times, ZoneArgs};
use crate::protocol::{ErrorCode, MessageId, Pattern, RoomName};
use roomlog_client::{Client, Error, Room};

const AT_ONCE: usize = 16;

/// Width of a room's name in the table, in columns.
const NAME: usize = 30;

/// Lists rooms. The token must grant `manage` on `*`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog rooms --match 'chat.*'
  roomlog rooms --long")]
pub(super) struct Rooms {
    /// Only those that match, where * stands for any run of characters
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<Pattern>,
    /// Include the details of each room
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    remote: Remote,
}

impl Rooms {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| self.list(client))
    }

    async fn list(&self, client: Client) -> Result<(), Failed> {
        let output = self.remote.output().with_times(self.zone.times()?);
        let rooms = all(&client, self.pattern.as_ref()).await?;
        if rooms.is_empty() {
            hint("no rooms")?;
        } else if self.long {
            describe(&client, &output, rooms).await?;
        } else {
            for room in rooms {
                match output.is_for_people() {
                    true => output.line(room.as_str())?,
                    false => output.json(&json!({ "room": room }))?,
                }
            }
        }
        Ok(())
    }
}

async fn all(client: &Client, pattern: Option<&Pattern>) -> Result<BTreeSet<RoomName>, Failed> {
    let (mut rooms, mut cursor) = (BTreeSet::new(), None);
    let mut progress = Progress::new("rooms");
    loop {
        let list = client.rooms(pattern, cursor.as_deref()).await?;
        rooms.extend(list.rooms);
        cursor = list.cursor;
        if cursor.is_none() {
            progress.clear()?;
            return Ok(rooms);
        }
        progress.show(rooms.len())?;
    }
}

async fn describe(client: &Client, output: &Output, rooms: BTreeSet<RoomName>) -> Result<(), Failed> {
    let width = rooms.iter().map(|room| room.as_str().len()).max().unwrap_or_default().clamp(4, NAME);
    if output.is_for_people() {
        let Style { bold, plain, .. } = output.style();
        output.line(&format!(
            "{bold}{:width$}  {:>10}  {:>8}  {}{plain}",
            "room",
            "messages",
            "memory",
            output.times().column("newest")
        ))?;
    }
    let described = stream::iter(rooms).map(async |room| client.room(&room).await).buffered(AT_ONCE);
    let mut described = std::pin::pin!(described);
    while let Some(room) = described.next().await {
        match room {
            Ok(room) if output.is_for_people() => output.line(&row(&room, width, output.times()))?,
            Ok(room) => output.json(&room)?,
            // It was deleted meanwhile.
            Err(Error::Refused(failure)) if failure.code == ErrorCode::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn row(room: &Room, width: usize, times: &Times) -> String {
    let Room { room, head, length, bytes, .. } = room;
    let name = cut(room.as_str(), width);
    let newest = match *head {
        MessageId::ZERO => "-".to_owned(),
        head => times.full(head.ms),
    };
    format!("{name:width$}  {length:>10}  {:>8}  {newest}", size(*bytes))
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && amount < 10.0);
    format!("{amount:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn rows_fit_into_eighty_columns() {
        let room = Room {
            room: "x".repeat(128).parse().unwrap(),
            head: MessageId::new(1_700_000_000_000, 1),
            first: None,
            length: 1_000_000_000,
            bytes: 1 << 50,
            subscribers: 0,
            subscriptions: 0,
        };
        let times = [Times::default(), Times::local(TimeZone::UTC)];
        assert!(times.iter().all(|times| row(&room, NAME, times).chars().count() <= 80));
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 999, 1000, 1 << 14, 1 << 30].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 KiB", "16 KiB", "1.0 GiB"]);
    }
}
