//! The first messages of a development server: a short tour, in the room that the page opens.

use uuid::{Uuid, uuid};

use crate::auth::{Claims, Permission, RoomGrants};
use crate::protocol::request::{DEFAULT_TYPE, Draft};
use crate::protocol::{Data, ErrorCode, Failure, MessageId};
use crate::service::Services;

const ROOM: &str = "chat.general";

/// The sender.
const USER: &str = "roomlog";

/// The keys of the messages: two servers that start at once store each message once.
const KEYS: [Uuid; 3] = [
    uuid!("5d0f7a3e-6c1b-4f55-9a52-3f6a5b1d7c01"),
    uuid!("5d0f7a3e-6c1b-4f55-9a52-3f6a5b1d7c02"),
    uuid!("5d0f7a3e-6c1b-4f55-9a52-3f6a5b1d7c03"),
];

/// Publishes the tour if its room has never had a message. `program` is the command to show.
///
/// # Errors
/// If Redis does not answer.
pub(super) async fn publish(services: &Services, program: &str) -> Result<(), Failure> {
    let all = RoomGrants::from([("*".parse()?, Permission::ALL.to_vec())]);
    let claims =
        Claims { user: USER.parse()?, expires: u64::MAX, issued: None, jti: None, grants: all.into() };
    let room = ROOM.parse()?;
    match services.rooms.describe(&claims, &room).await {
        Ok((facts, _)) if facts.head != MessageId::ZERO => return Ok(()),
        Err(failure) if failure.code != ErrorCode::NotFound => return Err(failure),
        _ => {}
    }
    for (key, text) in KEYS.into_iter().zip(texts(program)) {
        let data = serde_json::json!({ "text": text }).to_string();
        let data = Data::from_json(&data).map_err(|error| Failure::bad_request(error.to_string()))?;
        let draft = Draft { key, new_key: false, kind: DEFAULT_TYPE.into(), data };
        services.publisher.admit(&claims, room.clone(), draft)?.store().await?;
    }
    Ok(())
}

/// Returns the texts, in Markdown.
fn texts(program: &str) -> [String; 3] {
    [
        "**Welcome to Roomlog.** This is `chat.general`, a room on your own machine. Every message in it is \
         stored, and readers who were offline catch up on everything they missed."
            .into(),
        "**Try it:** open this page in a second window, under another name, and write a few messages. Then stop \
         the server with Ctrl-C, keep writing, and start it again. Everything arrives, once and in order."
            .into(),
        format!(
            "**Where to go next:** follow this room in a terminal with `{program} tail chat.general`, and read \
             the guides in `docs/` to build your own app. The server printed the token you need when it started."
        ),
    ]
}
