//! `roomlog delete`.

use clap::Args;
use serde_json::json;

use super::Failed;
use super::confirm::confirm;
use super::remote::Remote;
use crate::protocol::{MessageId, RoomName};
use roomlog_client::{Client, Room};

/// Deletes a room with its messages and durable subscriptions, or one message. Asks first. The token must
/// grant `manage` on the room.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog delete chat.old
  roomlog delete chat.general --message 1795331063141-42 --yes")]
pub(super) struct Delete {
    /// The room
    room: RoomName,
    /// Delete only this message; readers that reach its place get a gap
    #[arg(long, value_name = "ID")]
    message: Option<MessageId>,
    /// Delete without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Delete {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| self.delete(client))
    }

    async fn delete(&self, client: Client) -> Result<(), Failed> {
        let Self { room, message, yes, remote } = self;
        let output = remote.output();
        let deleted = match message {
            Some(id) => {
                confirm(&format!("Delete message {id} of {room} for good?"), *yes)?;
                client.delete_message(room, *id).await?;
                format!("message {id} of {room}")
            }
            None => {
                if !yes {
                    confirm(&question(&client.room(room).await?), false)?;
                }
                client.delete_room(room).await?;
                format!("room {room}")
            }
        };
        match output.is_for_people() {
            true => output.line(&format!("deleted {deleted}"))?,
            false => output.json(&json!({ "deleted": { "room": room, "id": message } }))?,
        }
        Ok(())
    }
}

fn question(Room { room, length, subscriptions, .. }: &Room) -> String {
    let count = |count: u64, noun: &str| match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    format!(
        "Delete the room {room} for good, with {} and {}?",
        count(*length, "message"),
        count(*subscriptions, "durable subscription")
    )
}
