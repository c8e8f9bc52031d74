//! `roomlog revoke`.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::Failed;
use super::output::printable;
use super::remote::Remote;
use crate::protocol::UserId;
use roomlog_client::{Client, Revocation};

/// Revokes a token, or all tokens of a user, on all nodes, and closes the connections that use them. The own
/// token must grant `manage` on `*`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("revoked").required(true)))]
#[command(after_help = "\
Examples:
  roomlog revoke --user ann
  roomlog revoke --jti laptop-7")]
pub(super) struct Revoke {
    /// User whose tokens are revoked; those that are issued later are valid
    #[arg(long, value_name = "NAME", group = "revoked")]
    user: Option<UserId>,
    /// Id of the one token that is revoked (`jti`)
    #[arg(long, value_name = "ID", group = "revoked")]
    jti: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Revoke {
    pub(super) fn run(self) -> Result<(), Failed> {
        self.remote.run(|client| self.revoke(client))
    }

    async fn revoke(&self, client: Client) -> Result<(), Failed> {
        let (revocation, revoked) = match (&self.jti, &self.user) {
            (Some(jti), _) => (
                Revocation::Token { jti: jti.clone(), expires: None },
                format!("the token {}", printable(jti)),
            ),
            (None, user) => {
                let user = user.as_ref().map(ToString::to_string).unwrap_or_default();
                let revoked = format!("the tokens of {}", printable(&user));
                (Revocation::User { user, before: None }, revoked)
            }
        };
        client.revoke(&revocation).await?;
        let output = self.remote.output();
        match output.is_for_people() {
            true => output.line(&format!("revoked {revoked}"))?,
            false => output.json(&json!({ "revoked": { "user": self.user, "jti": self.jti } }))?,
        }
        Ok(())
    }
}
