//! Redis's protocol, as far as tests need it: one command, one reply, one connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The address of a Redis.
#[derive(Debug, Clone)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port on this machine.
    Port(u16),
}

/// A reply of Redis.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Nil,
    Number(i64),
    /// A status or a string.
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Error(String),
}

impl Reply {
    /// Returns the number, parsing it if the reply is text.
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            _ => self.text().parse().unwrap_or_else(|_| panic!("no number: {self:?}")),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }

    /// Returns the value after a name, in a list of names and values.
    pub fn field(&self, name: &str) -> &Self {
        let mut pairs = self.list().chunks(2);
        let pair = pairs.find(|pair| pair[0].text() == name);
        &pair.unwrap_or_else(|| panic!("no {name} in {self:?}"))[1]
    }
}

impl Place {
    /// Sends a command and returns the reply, waiting at most `patience`.
    ///
    /// # Errors
    /// Those of the connection, and Redis's own.
    pub fn ask<A: AsRef<[u8]>>(&self, command: &[A], patience: Duration) -> io::Result<Reply> {
        match ask_within(self, command, patience)? {
            Reply::Error(error) => Err(io::Error::other(error)),
            reply => Ok(reply),
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Sends a command and returns the reply.
pub fn ask<A: AsRef<[u8]>>(place: &Place, command: &[A]) -> io::Result<Reply> {
    ask_within(place, command, Duration::from_secs(10))
}

fn ask_within<A: AsRef<[u8]>>(place: &Place, command: &[A], patience: Duration) -> io::Result<Reply> {
    let patience = Some(patience);
    let mut stream: Box<dyn Stream> = match place {
        Place::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(patience)?;
            Box::new(stream)
        }
        Place::Port(port) => {
            let stream = TcpStream::connect(("127.0.0.1", *port))?;
            stream.set_read_timeout(patience)?;
            Box::new(stream)
        }
    };
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        let word = word.as_ref();
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request)?;
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok(match kind {
        "+" => Reply::Bytes(rest.into()),
        "-" => Reply::Error(rest.into()),
        ":" => Reply::Number(number()?),
        "$" | "*" if number()? < 0 => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; number()? as usize + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Reply::Bytes(bytes)
        }
        "*" => Reply::List((0..number()?).map(|_| read(stream)).collect::<io::Result<_>>()?),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    })
}
