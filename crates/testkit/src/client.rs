//! A WebSocket client that sees exactly what the server sends, in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout_at;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{DEADLINE, Server, from_msgpack, soon, to_msgpack};

/// Options of the WebSocket upgrade.
#[derive(Debug, Clone, Default)]
pub struct Upgrade<'a> {
    /// Subprotocols to offer.
    pub protocols: Option<&'a str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Size of the socket's receive buffer in bytes, if it should be small.
    pub buffer: Option<u32>,
}

#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    msgpack: bool,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
    /// Number of WebSocket messages received.
    pub received: usize,
    /// Payloads of the pong frames received.
    pub pongs: Vec<Vec<u8>>,
    frames: VecDeque<Value>,
    closed: Option<u16>,
    next_ref: u64,
}

impl Client {
    /// Opens a connection without sending `connect`.
    ///
    /// # Errors
    /// The HTTP status with which the server refused.
    pub async fn open(server: &Server, upgrade: Upgrade<'_>) -> Result<Self, u16> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = upgrade.buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = soon("a connection", socket.connect(server.address)).await.unwrap();
        let mut request: Request = format!("ws://{}/v1/ws", server.address).into_client_request().unwrap();
        let protocols = upgrade.protocols.map(|names| ("Sec-WebSocket-Protocol", names.to_owned()));
        for (name, value) in upgrade.headers.into_iter().chain(protocols) {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, response) =
            match soon("the upgrade", client_async_with_config(request, stream, Some(config))).await {
                Ok(opened) => opened,
                Err(Error::Http(response)) => return Err(response.status().as_u16()),
                Err(error) => panic!("{error}"),
            };
        let protocol = response.headers().get("Sec-WebSocket-Protocol");
        let protocol = protocol.map(|name| name.to_str().unwrap().to_owned());
        let msgpack = protocol.as_deref() == Some("roomlog.v1.msgpack");
        let (frames, pongs) = Default::default();
        Ok(Self { socket, msgpack, protocol, received: 0, pongs, frames, closed: None, next_ref: 1 })
    }

    /// Connects with JSON.
    pub async fn connect(server: &Server, token: &str) -> Self {
        Self::connect_with(server, token, Upgrade::default()).await
    }

    /// Connects with MessagePack.
    pub async fn connect_msgpack(server: &Server, token: &str) -> Self {
        let protocols = Some("roomlog.v1.msgpack");
        Self::connect_with(server, token, Upgrade { protocols, ..Upgrade::default() }).await
    }

    /// Connects over a connection with these upgrade options.
    pub async fn connect_with(server: &Server, token: &str, upgrade: Upgrade<'_>) -> Self {
        let mut client = Self::open(server, upgrade).await.unwrap();
        client.ok(json!({ "op": "connect", "token": token })).await;
        client
    }

    /// Sends a frame, or an array of them.
    pub async fn send(&mut self, frame: Value) {
        let message = if self.msgpack {
            Message::Binary(to_msgpack(&frame).into())
        } else {
            Message::Text(frame.to_string().into())
        };
        self.send_message(message).await;
    }

    /// Sends a raw WebSocket message.
    pub async fn send_message(&mut self, message: Message) {
        soon("a message is sent", self.socket.send(message)).await.unwrap();
    }

    /// Sends a WebSocket message. Returns whether the connection still accepted it.
    pub async fn try_send(&mut self, message: Message) -> bool {
        soon("a message is sent", self.socket.send(message)).await.is_ok()
    }

    /// Returns the TCP connection below the WebSocket.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends a frame with a `ref` and returns the answer. Frames that arrive before it stay queued.
    pub async fn request(&mut self, frame: Value) -> Value {
        let reference = self.ask(frame).await;
        self.answer(reference).await
    }

    /// Sends a frame with a `ref`, and returns the `ref`.
    pub async fn ask(&mut self, mut frame: Value) -> u64 {
        let reference = self.next_ref;
        self.next_ref += 1;
        frame["ref"] = json!(reference);
        self.send(frame).await;
        reference
    }

    /// Returns the answer with this `ref`.
    pub async fn answer(&mut self, reference: u64) -> Value {
        let mut seen = 0;
        loop {
            if let Some(index) = self.frames.iter().skip(seen).position(|frame| frame["ref"] == reference) {
                return self.frames.remove(seen + index).unwrap();
            }
            seen = self.frames.len();
            self.more().await;
        }
    }

    /// Sends a frame with a `ref`. The answer must be `ok`.
    pub async fn ok(&mut self, frame: Value) -> Value {
        let answer = self.request(frame.clone()).await;
        assert_eq!(answer["op"], "ok", "{frame} was answered {answer}");
        answer
    }

    /// Sends a frame with a `ref`. The answer must be an `error`, whose code is returned.
    pub async fn error(&mut self, frame: Value) -> String {
        let answer = self.request(frame.clone()).await;
        assert_eq!(answer["op"], "error", "{frame} was answered {answer}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// Returns the next frame.
    ///
    /// # Panics
    /// If the connection is closed instead, or nothing arrives in time.
    pub async fn next(&mut self) -> Value {
        while self.frames.is_empty() {
            self.more().await;
        }
        self.frames.pop_front().unwrap()
    }

    /// Returns the next frame, or `None` once the connection is closed.
    pub async fn next_or_closed(&mut self) -> Option<Value> {
        while self.frames.is_empty() && self.closed.is_none() {
            self.read().await;
        }
        self.frames.pop_front()
    }

    /// Returns the next frame, which must have this `op`.
    pub async fn expect(&mut self, op: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["op"], op, "{frame}");
        frame
    }

    /// Returns the next `count` frames, which must be messages.
    pub async fn messages(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            messages.push(self.expect("message").await);
        }
        messages
    }

    /// Returns the frames before the first one with this `op`, which is dropped.
    pub async fn until(&mut self, op: &str) -> Vec<Value> {
        let mut seen = 0;
        loop {
            // They stay in the queue, so that the failure of a wait shows what arrived instead.
            while self.frames.len() <= seen {
                self.more().await;
            }
            if self.frames[seen]["op"] == op {
                let frames = self.frames.drain(..=seen);
                return frames.take(seen).collect();
            }
            seen += 1;
        }
    }

    /// Returns all frames received so far: those that the server sends before it answers a ping.
    pub async fn settled(&mut self) -> Vec<Value> {
        let answer = self.request(json!({ "op": "ping" })).await;
        assert_eq!(answer["op"], "pong");
        std::mem::take(&mut self.frames).into()
    }

    /// Subscribes to a room with these further fields, and returns the answer.
    pub async fn subscribe(&mut self, room: &str, fields: Value) -> Value {
        let mut frame = json!({ "op": "subscribe", "room": room });
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.ok(frame).await
    }

    /// Subscribes to the new messages of a room, and waits until the subscription is live.
    pub async fn join(&mut self, room: &str) {
        self.subscribe(room, json!({})).await;
        assert_eq!(self.expect("live").await["room"], room);
    }

    /// Publishes a message and returns its id.
    pub async fn publish(&mut self, room: &str, data: Value) -> String {
        let answer = self.ok(json!({ "op": "publish", "room": room, "data": data })).await;
        id_of(&answer)
    }

    /// Publishes a message and waits until the reader has it. Returns how long that took.
    pub async fn deliver(&mut self, room: &str, reader: &mut Self) -> Duration {
        let started = Instant::now();
        let id = self.publish(room, json!("deliver")).await;
        while id_of(&reader.expect("message").await) != id {}
        started.elapsed()
    }

    /// Publishes `count` messages of `bytes` bytes each, a few of them in flight at a time. Returns their
    /// ids.
    pub async fn publish_many(&mut self, room: &str, count: usize, bytes: usize) -> Vec<String> {
        let text = "x".repeat(bytes);
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let refs = self.next_ref..self.next_ref + 100.min(count - ids.len()) as u64;
            self.next_ref = refs.end;
            let frame = |reference| json!({ "op": "publish", "ref": reference, "room": room, "data": text });
            self.send(refs.clone().map(frame).collect()).await;
            for reference in refs {
                let answer = self.answer(reference).await;
                assert_eq!(answer["op"], "ok", "{answer}");
                ids.push(id_of(&answer));
            }
        }
        ids
    }

    /// Returns the code with which the server closes, or has closed, the connection. Frames before that stay
    /// queued. 1006 stands for an end without a code.
    pub async fn closed(&mut self) -> u16 {
        while self.closed.is_none() {
            self.read().await;
        }
        self.closed.unwrap()
    }

    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        self.closed().await;
    }

    async fn more(&mut self) {
        assert!(self.closed.is_none(), "closed with {:?} after {:?}", self.closed, self.frames);
        self.read().await;
    }

    /// Reads one WebSocket message, or the end. Pings and pongs in between do not extend the deadline.
    async fn read(&mut self) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let value = loop {
            let Ok(message) = timeout_at(deadline, self.socket.next()).await else {
                panic!("nothing came for {DEADLINE:?}; before that: {:?}", self.frames)
            };
            match message {
                Some(Ok(Message::Text(text))) if !self.msgpack => break serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Binary(bytes))) if self.msgpack => break from_msgpack(&bytes),
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                    return;
                }
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(Message::Pong(payload))) => self.pongs.push(payload.to_vec()),
                Some(Ok(other)) => panic!("of the wrong type: {other:?}"),
                Some(Err(_)) | None => {
                    self.closed.get_or_insert(1006);
                    return;
                }
            }
        };
        self.received += 1;
        match value {
            Value::Array(frames) => self.frames.extend(frames),
            frame => self.frames.push_back(frame),
        }
    }
}

pub fn id_of(frame: &Value) -> String {
    frame["id"].as_str().unwrap_or_else(|| panic!("no id in {frame}")).to_owned()
}

pub fn ids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(id_of).collect()
}

/// Returns the counter in an id.
pub fn seq(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// Returns the counters of the messages' ids.
pub fn seqs(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| seq(&id_of(message))).collect()
}
