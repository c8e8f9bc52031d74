//! Redis's protocol as far as a load generator needs it: commands, one at a time or pipelined, and the size
//! of their replies.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::BenchError;

#[derive(Debug)]
pub(super) struct Resp {
    address: SocketAddr,
    stream: TcpStream,
    /// Bytes read that are not a whole reply yet.
    bytes: Vec<u8>,
}

/// A summary of a reply.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Number of elements of the outermost array.
    pub elements: u64,
    /// The last string in it, or the whole reply if it is a string.
    pub text: Vec<u8>,
}

impl Resp {
    pub async fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let failed = |error| BenchError::Io(format!("Redis at {address}"), error);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { address, stream, bytes: Vec::with_capacity(1024 * 1024) })
    }

    /// Returns the number of commands that this Redis has executed.
    pub async fn commands(&mut self) -> Result<u64, BenchError> {
        self.send(&["INFO", "stats"]).await?;
        let info = self.reply().await?.text;
        let info = String::from_utf8_lossy(&info);
        let count = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        let count = count.and_then(|count| count.trim().parse().ok());
        count.ok_or_else(|| {
            BenchError::Refused(format!("Redis at {} does not say its commands", self.address))
        })
    }

    pub async fn send(&mut self, words: &[&str]) -> Result<(), BenchError> {
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command += &format!("${}\r\n{word}\r\n", word.len()));
        let sent = self.stream.write_all(command.as_bytes()).await;
        sent.map_err(|error| self.failed(error))
    }

    pub async fn reply(&mut self) -> Result<Reply, BenchError> {
        self.read().await.map_err(|error| self.failed(error))
    }

    async fn read(&mut self) -> io::Result<Reply> {
        let (mut at, mut left) = (0, 1);
        let (mut elements, mut text) = (None, 0..0);
        while left > 0 {
            let Some(Element { kind, number, begin, end }) = element(&self.bytes[at..]) else {
                if self.stream.read_buf(&mut self.bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            if kind == b'*' {
                left += number;
                elements.get_or_insert(number);
            } else {
                text = at + begin..at + end;
            }
            if kind == b'-' {
                return Err(io::Error::other(String::from_utf8_lossy(&self.bytes[text]).into_owned()));
            }
            (at, left) = (at + end + 2, left - 1);
        }
        let reply = Reply { elements: elements.unwrap_or_default(), text: self.bytes[text].to_vec() };
        self.bytes.drain(..at);
        Ok(reply)
    }

    fn failed(&self, error: io::Error) -> BenchError {
        BenchError::Io(format!("Redis at {}", self.address), error)
    }
}

/// An element of a reply: a number, an error, a string, or the head of an array.
struct Element {
    kind: u8,
    /// The number, or the length of a string or an array.
    number: u64,
    /// Offset of its text, which `\r\n` follows.
    begin: usize,
    end: usize,
}

/// Parses the first element of these bytes, if it is complete.
fn element(bytes: &[u8]) -> Option<Element> {
    let line = bytes.iter().position(|byte| *byte == b'\r')?;
    let (kind, text) = bytes[..line].split_first()?;
    // A missing value has the length -1.
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let (begin, end) = match kind {
        b'$' if text != b"-1" => (line + 2, line + 2 + usize::try_from(number).ok()?),
        _ => (1, line),
    };
    (bytes.len() >= end + 2).then_some(Element { kind: *kind, number, begin, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_parsed_once_they_are_complete() {
        for (bytes, expected) in [
            ("*2\r\n", (b'*', 2, "2")),
            ("$5\r\na\r\nbc\r\n", (b'$', 5, "a\r\nbc")),
            ("$-1\r\n", (b'$', 0, "-1")),
            ("-ERR no\r\n", (b'-', 0, "ERR no")),
        ] {
            let found = element(bytes.as_bytes()).map(|found| {
                assert_eq!(found.end + 2, bytes.len());
                (found.kind, found.number, &bytes[found.begin..found.end])
            });
            assert_eq!(found, Some(expected));
            assert!(element(&bytes.as_bytes()[..bytes.len() - 1]).is_none(), "{bytes}");
        }
    }
}
