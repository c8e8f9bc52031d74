//! `serve --dev`: for trying things out on one machine. Its secret survives restarts, so tokens and open pages
//! do too.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::{Failed, program};
use crate::auth::{Permission, RoomGrants, mint};
use crate::config::{Config, Secret};

const TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The file in the data directory that holds the secret.
const FILE: &str = "dev-secret";

#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error(
        "--dev keeps its secret in {}, which cannot be used ({source}): make the directory writable for the user that runs roomlog, or choose another one with --data-dir",
        .path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} does not hold a secret of --dev: remove the file, and --dev makes a new one (tokens of the old secret end)",
        .0.display()
    )]
    Damaged(PathBuf),
}

/// Returns the secret of a data directory, which is made at the first call.
pub(super) fn secret(dir: &Path) -> Result<Secret, SecretError> {
    let path = dir.join(FILE);
    let unusable = |source| SecretError::Unusable { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    match File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            file.write_all(secret.as_bytes()).map_err(unusable)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(unusable(error)),
    }
    let text = fs::read_to_string(&path).map_err(unusable)?;
    text.trim().parse().map_err(|_| SecretError::Damaged(path.clone()))
}

pub(super) fn welcome(config: &Config, url: &str) -> Result<(), Failed> {
    let all = [("*".parse()?, Permission::ALL.to_vec())];
    let token = mint(&config.auth, &"dev".parse()?, &RoomGrants::from(all), TTL, None)?;
    let program = program();
    let mut out = io::stdout();
    let (bold, plain) = if out.is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    writeln!(
        out,
        "
{bold}Roomlog runs on {url}{plain}  (development: this machine only)

A token for the user `dev`, who may do everything. It is valid for 30 days, also after a restart:
  export ROOMLOG_URL={url}
  export ROOMLOG_TOKEN={token}

Publish a message, and read the room:
  curl -H \"Authorization: Bearer $ROOMLOG_TOKEN\" -H 'Content-Type: application/json' \\
       -d '{{\"data\": {{\"text\": \"hello\"}}}}' $ROOMLOG_URL/v1/rooms/chat.general/messages
  curl -H \"Authorization: Bearer $ROOMLOG_TOKEN\" $ROOMLOG_URL/v1/rooms/chat.general/messages

Follow it live:  {program} tail chat.general --last 10
In a browser:    {url}/
"
    )?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = secret(&data).unwrap();
        assert_eq!(secret(&data).unwrap().expose(), first.expose());
        let mode = fs::metadata(data.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(data.join(FILE), "short").unwrap();
        assert!(secret(&data).unwrap_err().to_string().contains("remove the file"));
    }
}
