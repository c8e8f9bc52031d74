//! A WebSocket that is expected to fail.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::PATIENCE;

/// The reason why a connection is no longer usable.
pub type Lost = String;

pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    frames: VecDeque<Value>,
    reference: u64,
}

fn lost(error: impl ToString) -> Lost {
    error.to_string()
}

impl Socket {
    /// Connects and authenticates. `buffer` is the size of the receive buffer in bytes, if given.
    pub async fn open(to: SocketAddr, token: &str, buffer: Option<u32>) -> Result<Self, Lost> {
        let handshake = async {
            let socket = TcpSocket::new_v4().map_err(lost)?;
            if let Some(bytes) = buffer {
                socket.set_recv_buffer_size(bytes).map_err(lost)?;
            }
            let stream = socket.connect(to).await.map_err(lost)?;
            client_async(format!("ws://{to}/v1/ws"), stream).await.map_err(lost)
        };
        let (stream, _) = timeout(PATIENCE, handshake).await.map_err(lost)??;
        let mut socket = Self { stream, frames: VecDeque::new(), reference: 0 };
        let answer = socket.request(json!({ "op": "connect", "token": token })).await?;
        if answer["op"] == "ok" { Ok(socket) } else { Err(answer.to_string()) }
    }

    pub async fn send(&mut self, frame: &Value) -> Result<(), Lost> {
        let sending = self.stream.send(Message::text(frame.to_string()));
        timeout(PATIENCE, sending).await.map_err(lost)?.map_err(lost)
    }

    /// Returns a `ref` that has not been used before.
    pub fn reference(&mut self) -> u64 {
        self.reference += 1;
        self.reference
    }

    /// Sends a frame and returns the answer. Frames that arrive before it stay queued for [`Socket::next`].
    pub async fn request(&mut self, mut frame: Value) -> Result<Value, Lost> {
        let reference = self.reference();
        frame["ref"] = json!(reference);
        self.send(&frame).await?;
        let mut before = VecDeque::new();
        let answer = loop {
            let frame = timeout(PATIENCE, self.next()).await.map_err(lost)??;
            if frame["ref"] == reference {
                break frame;
            }
            before.push_back(frame);
        };
        before.append(&mut self.frames);
        self.frames = before;
        Ok(answer)
    }

    /// Returns the next frame. Cancel safe.
    pub async fn next(&mut self) -> Result<Value, Lost> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text).map_err(lost)? {
                    Value::Array(frames) => self.frames.extend(frames),
                    frame => self.frames.push_back(frame),
                },
                Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(lost("the end")),
            }
        }
    }
}
