//! Just enough of Redis's protocol for the supervisor: one command, one reply, one short-lived connection. It
//! also talks to a Redis that is still loading, or that an earlier node left behind.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum size of a reply, in bytes.
const LONGEST_REPLY: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+OK`, `+PONG`.
    Status(String),
    /// `-LOADING …`, `-ERR …`.
    Error(String),
    /// A string, or nil.
    Bulk(Option<String>),
}

/// Sends one command to the Redis at `socket` and returns its reply.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if nothing listens, `TimedOut` if it does not answer within a second,
/// `UnexpectedEof` if it closed the connection instead (as it does after `SHUTDOWN`).
pub(super) async fn ask(socket: &Path, command: &[&str]) -> io::Result<Reply> {
    timeout(TIMEOUT, exchange(socket, command)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn exchange(socket: &Path, command: &[&str]) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    let mut replies = BufReader::new(stream.take(LONGEST_REPLY));

    let mut line = String::new();
    replies.read_line(&mut line).await?;
    let Some(line) = line.strip_suffix("\r\n") else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    match line.split_at_checked(1) {
        Some(("+", text)) => Ok(Reply::Status(text.to_owned())),
        Some(("-", text)) => Ok(Reply::Error(text.to_owned())),
        Some(("$", "-1")) => Ok(Reply::Bulk(None)),
        Some(("$", length)) => {
            let length: u64 = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            let mut text = String::new();
            replies.take(length).read_to_string(&mut text).await?;
            Ok(Reply::Bulk(Some(text)))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
