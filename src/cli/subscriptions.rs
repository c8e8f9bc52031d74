//! `roomlog subscriptions`.

use clap::Args;
use serde_json::json;

use super::Failed;
use super::confirm::confirm;
use super::output::{Output, Style, hint, printable};
use super::progress::Progress;
use super::remote::Remote;
use super::text::cut;
use super::times::{Times, ZoneArgs};
use crate::protocol::{MessageId, RoomName, SubscriptionName, UserId};
use roomlog_client::{Client, DurableSubscription};

/// Widths of columns, in characters.
const USER: usize = 16;
const NAME: usize = 16;

/// Lists the durable subscriptions of a room: how far each has acknowledged, how many messages it has not, and
/// whether a connection holds it now. The token must grant `read` or `manage` on the room.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog subscriptions chat.general
  roomlog subscriptions chat.general --delete ann/phone")]
pub(super) struct Subscriptions {
    /// The room
    room: RoomName,
    /// Delete this subscription with its position, after a question; the token must grant `manage`
    #[arg(long, value_name = "USER/NAME", value_parser = durable)]
    delete: Option<(UserId, SubscriptionName)>,
    /// Delete without asking
    #[arg(long, short, requires = "delete")]
    yes: bool,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    remote: Remote,
}

impl Subscriptions {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| async {
            let output = self.remote.output().with_times(self.zone.times()?);
            match &self.delete {
                Some((user, name)) => self.delete(client, &output, user, name).await,
                None => self.list(client, &output).await,
            }
        })
    }

    async fn list(&self, client: Client, output: &Output) -> Result<(), Failed> {
        let (mut all, mut cursor) = (Vec::new(), None);
        let mut progress = Progress::new("subscriptions");
        loop {
            let page = client.subscriptions(&self.room, cursor).await?;
            all.extend(page.subscriptions);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
            progress.show(all.len())?;
        }
        progress.clear()?;
        if all.is_empty() {
            hint(&format!("no durable subscriptions of {}", self.room))?;
        } else if output.is_for_people() {
            let Style { bold, plain, .. } = output.style();
            output.line(&format!("{bold}{}{plain}", title(output.times())))?;
        }
        for subscription in all {
            match output.is_for_people() {
                true => output.line(&row(&subscription, output.times()))?,
                false => output.json(&subscription)?,
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        client: Client,
        output: &Output,
        user: &UserId,
        name: &SubscriptionName,
    ) -> Result<(), Failed> {
        let (room, shown) = (&self.room, printable(user.as_str()));
        confirm(&format!("Delete the durable subscription {shown}/{name} of {room} for good?"), self.yes)?;
        client.delete_subscription(room, user.as_str(), name).await?;
        match output.is_for_people() {
            true => output.line(&format!("deleted the durable subscription {shown}/{name} of {room}"))?,
            false => output.json(&json!({ "deleted": { "room": room, "user": user, "name": name } }))?,
        }
        Ok(())
    }
}

fn title(times: &Times) -> String {
    let (user, name, lag, held) = ("user", "name", "lag", "held");
    format!("{user:USER$}  {name:NAME$}  {lag:>10}  {held:4}  {}", times.column("position"))
}

/// Formats a subscription with the time of the last acknowledged message.
fn row(subscription: &DurableSubscription, times: &Times) -> String {
    let DurableSubscription { user, name, position, lag, connected } = subscription;
    let (user, name) = (cut(&printable(user), USER), cut(name.as_str(), NAME));
    let held = if *connected { "yes" } else { "no" };
    let position = match *position {
        MessageId::ZERO => "-".to_owned(),
        position => times.full(position.ms),
    };
    format!("{user:USER$}  {name:NAME$}  {lag:>10}  {held:4}  {position}")
}

/// Parses `ann/phone`. A user may contain a slash, a subscription's name may not.
fn durable(text: &str) -> Result<(UserId, SubscriptionName), String> {
    let (user, name) = text.rsplit_once('/').ok_or("write it as USER/NAME, such as ann/phone")?;
    let user = user.parse().map_err(|error| format!("{error}; write it as USER/NAME, such as ann/phone"))?;
    Ok((user, name.parse().map_err(|error| format!("{error}"))?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn rows_fit_into_eighty_columns() {
        let subscription = DurableSubscription {
            user: "ä".repeat(100),
            name: "x".repeat(64).parse().unwrap(),
            position: MessageId::new(1_700_000_000_000, 1),
            lag: 1_000_000_000,
            connected: true,
        };
        for times in [Times::default(), Times::local(TimeZone::UTC)] {
            let (title, row) = (title(&times), row(&subscription, &times));
            assert!(title.chars().count() <= 80 && row.chars().count() <= 80, "{title}\n{row}");
        }
    }

    #[test]
    fn a_subscription_is_named_by_its_user_and_its_name() {
        let parts = |text| durable(text).map(|(user, name)| (user.to_string(), name.to_string()));
        assert_eq!(parts("ann/phone"), Ok(("ann".into(), "phone".into())));
        assert_eq!(parts("team/ann/phone"), Ok(("team/ann".into(), "phone".into())));
        assert!(parts("phone").unwrap_err().contains("ann/phone"));
        assert!(parts("/phone").unwrap_err().contains("ann/phone"));
    }
}
