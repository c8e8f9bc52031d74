//! Managing rooms over HTTP: deleting messages and rooms, durable subscriptions, and revoking tokens.

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Serialize;

use roomlog_protocol::{MessageId, RoomName, SubscriptionName};

use super::client::Client;
use super::error::Error;
use super::types::{DurableList, Revocation};

impl Client {
    /// Deletes a room with its messages and durable subscriptions. Its subscribers are told. The token must
    /// grant `manage` on the room.
    ///
    /// # Errors
    /// `not_found`, any other refusal, or no answer.
    pub async fn delete_room(&self, room: &RoomName) -> Result<(), Error> {
        self.done(self.request(Method::DELETE, &format!("v1/rooms/{room}")).await?).await
    }

    /// Deletes a message. Readers that reach its place get a gap. The token must grant `manage` on the room.
    ///
    /// # Errors
    /// `not_found`, any other refusal, or no answer.
    pub async fn delete_message(&self, room: &RoomName, id: MessageId) -> Result<(), Error> {
        self.done(self.request(Method::DELETE, &format!("v1/rooms/{room}/messages/{id}")).await?).await
    }

    /// Lists the durable subscriptions of a room, from the beginning or from the cursor of the previous page
    /// on. The token must grant `read` or `manage` on the room.
    ///
    /// # Errors
    /// The server's refusal, or no answer.
    pub async fn subscriptions(&self, room: &RoomName, cursor: Option<u64>) -> Result<DurableList, Error> {
        let request = self.request(Method::GET, &format!("v1/rooms/{room}/subscriptions")).await?;
        let request = request.query(&cursor.map(|cursor| [("after", cursor)]));
        let (headers, subscriptions) = self.answer_with_headers(request).await?;
        Ok(DurableList { subscriptions, cursor: self.next(&headers) })
    }

    /// Deletes a user's durable subscription with its position. A connection that holds it is told. The token
    /// must grant `manage` on the room.
    ///
    /// # Errors
    /// `not_found`, any other refusal, or no answer.
    pub async fn delete_subscription(
        &self,
        room: &RoomName,
        user: &str,
        name: &SubscriptionName,
    ) -> Result<(), Error> {
        let mut address = self.address(&format!("v1/rooms/{room}/subscriptions"))?;
        // A user's name may contain a slash.
        if let Ok(mut path) = address.path_segments_mut() {
            path.extend([user, name.as_str()]);
        }
        self.done(self.request_to(Method::DELETE, address).await?).await
    }

    /// Revokes a token, or a user's tokens, on all nodes. Live connections that use them are closed. The token
    /// of this client must grant `manage` on `*`.
    ///
    /// # Errors
    /// The server's refusal, or no answer.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Body<'a> {
            Token { jti: &'a str, expires: Option<u64> },
            User { user: &'a str, before: Option<u64> },
        }
        let body = match revocation {
            Revocation::Token { jti, expires } => Body::Token { jti, expires: *expires },
            Revocation::User { user, before } => Body::User { user, before: *before },
        };
        self.done(self.request(Method::POST, "v1/revocations").await?.json(&body)).await
    }

    /// Returns the cursor of the next page, which is in its address.
    fn next(&self, headers: &HeaderMap) -> Option<u64> {
        let link = headers.get(LINK)?.to_str().ok()?;
        let (address, relation) = link.strip_prefix('<')?.split_once('>')?;
        let address: Url = self.base.join(address).ok().filter(|_| relation.contains("next"))?;
        address.query_pairs().find(|(name, _)| name == "after")?.1.parse().ok()
    }
}
