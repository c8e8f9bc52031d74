//! `roomlog token`.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Failed};
use crate::auth::{Permission, RoomGrants, mint};
use crate::protocol::{Pattern, UserId};

/// Makes a token: HS256, with `auth.hs256_secret`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog token --user ann --room 'chat.*=read,write'
  roomlog token --user backend --room '*=read,write,manage' --ttl 30d")]
pub(super) struct Token {
    #[command(flatten)]
    config: ConfigArgs,
    /// User of the token (`sub`)
    #[arg(long, value_name = "NAME")]
    user: UserId,
    /// Grant: a room or pattern, and any of read, write, manage; can be repeated
    #[arg(long = "room", value_name = "PATTERN=PERMISSIONS", value_parser = grant)]
    rooms: Vec<(Pattern, Vec<Permission>)>,
    /// Lifetime, such as 15m, 12h, 30d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Its id (`jti`), by which it can be revoked
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
}

impl Token {
    pub(super) fn run(self) -> Result<(), Failed> {
        let config = self.config.load(Vec::new())?;
        let mut rooms = RoomGrants::new();
        for (pattern, permissions) in self.rooms {
            rooms.entry(pattern).or_default().extend(permissions);
        }
        let token = mint(&config.auth, &self.user, &rooms, self.ttl, self.jti.as_deref())?;
        writeln!(std::io::stdout(), "{token}")?;
        Ok(())
    }
}

fn grant(text: &str) -> Result<(Pattern, Vec<Permission>), String> {
    let (pattern, permissions) =
        text.rsplit_once('=').ok_or("write it as PATTERN=PERMISSIONS, such as 'chat.*=read,write'")?;
    let pattern = pattern.parse().map_err(|error| format!("{pattern:?}: {error}"))?;
    let permission = |word: &str| {
        let known = Permission::ALL.into_iter().find(|permission| permission.as_str() == word);
        known.ok_or_else(|| format!("{word:?} is no permission; there are read, write and manage"))
    };
    Ok((pattern, permissions.split(',').map(permission).collect::<Result<_, _>>()?))
}
