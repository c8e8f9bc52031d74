//! Redis's protocol, as far as tests and the load generator need it: commands, one at a time or pipelined, and
//! replies. It blocks: one command takes no longer than a test may stand still, and the load generator reads
//! on a thread of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
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

/// Sends a command and returns the reply.
pub fn ask<A: AsRef<[u8]>>(place: &Place, command: &[A]) -> io::Result<Reply> {
    ask_within(place, command, Duration::from_secs(10))
}

fn ask_within<A: AsRef<[u8]>>(place: &Place, command: &[A], patience: Duration) -> io::Result<Reply> {
    let mut connection = match place {
        Place::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            Connection::over(stream)
        }
        Place::Port(port) => Connection::open(([127, 0, 0, 1], *port).into(), patience)?,
    };
    connection.send(command)?;
    connection.reply()
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection for many commands.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    /// The first line of a reply.
    line: Vec<u8>,
}

impl Connection {
    /// Connects, and waits at most `patience` for each read.
    ///
    /// # Errors
    /// Those of the connection, here and below.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, Box::new(stream)), line: Vec::new() }
    }

    /// Sends a command. Its reply comes after those of earlier commands.
    pub fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)
    }

    /// Reads the next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        Ok(match self.head()? {
            b'+' => Reply::Bytes(self.line[1..].to_vec()),
            b'-' => Reply::Error(String::from_utf8_lossy(&self.line[1..]).into_owned()),
            b':' => Reply::Number(self.number()?),
            kind @ (b'$' | b'*') => match (kind, usize::try_from(self.number()?)) {
                (_, Err(_)) => Reply::Nil,
                (b'$', Ok(length)) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bytes(bytes)
                }
                (_, Ok(count)) => Reply::List((0..count).map(|_| self.reply()).collect::<io::Result<_>>()?),
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Reads the next reply without keeping it, and returns the length of its outermost list.
    ///
    /// # Errors
    /// Redis's own, too.
    pub fn skip(&mut self) -> io::Result<u64> {
        let (mut list, mut left) = (None, 1);
        while left > 0 {
            left -= 1;
            match self.head()? {
                b'-' => return Err(io::Error::other(String::from_utf8_lossy(&self.line[1..]).into_owned())),
                kind @ (b'$' | b'*') => match (kind, u64::try_from(self.number()?)) {
                    (b'$', Ok(length)) => self.pass(length + 2)?,
                    (b'*', Ok(count)) => {
                        list.get_or_insert(count);
                        left += count;
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(list.unwrap_or_default())
    }

    /// Reads a line, and returns its first byte.
    fn head(&mut self) -> io::Result<u8> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line)?;
        if !self.line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.line.truncate(self.line.len() - 2);
        self.line.first().copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Returns the number in the line.
    fn number(&self) -> io::Result<i64> {
        let text = std::str::from_utf8(&self.line[1..]).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads this many bytes without keeping them.
    fn pass(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let available = self.stream.fill_buf()?.len() as u64;
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let passed = available.min(bytes);
            self.stream.consume(passed as usize);
            bytes -= passed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a connection on which these bytes arrive.
    fn receiving(bytes: &[u8]) -> Connection {
        let (mut there, here) = UnixStream::pair().unwrap();
        there.write_all(bytes).unwrap();
        Connection::over(here)
    }

    #[test]
    fn replies_are_read_one_after_the_other_kept_or_not() {
        let bytes = b"*3\r\n$5\r\na\r\nbc\r\n*2\r\n:7\r\n$-1\r\n+OK\r\n-ERR no\r\n*1\r\n:1\r\n";
        let (mut kept, mut skipped) = (receiving(bytes), receiving(bytes));
        let inner = Reply::List(vec![Reply::Number(7), Reply::Nil]);
        let first = vec![Reply::Bytes(b"a\r\nbc".into()), inner, Reply::Bytes(b"OK".into())];
        assert_eq!(kept.reply().unwrap(), Reply::List(first));
        assert_eq!(kept.reply().unwrap(), Reply::Error("ERR no".into()));
        assert_eq!(kept.reply().unwrap(), Reply::List(vec![Reply::Number(1)]));
        assert!(kept.reply().is_err());

        assert_eq!(skipped.skip().unwrap(), 3);
        assert_eq!(skipped.skip().unwrap_err().to_string(), "ERR no");
        assert_eq!(skipped.skip().unwrap(), 1);
        assert!(skipped.skip().is_err());
    }
}
