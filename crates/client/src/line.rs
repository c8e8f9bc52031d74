//! A connection that is up: the requests whose answers are awaited, and the renewal of its token.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use roomlog_protocol::RoomName;

use super::Error;
use super::frames;
use super::socket::{CONNECT, Socket};
use super::token::Tokens;

/// Range of the pause before another attempt to renew a token.
const RENEWAL_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A request whose answer is awaited.
#[derive(Debug)]
pub(super) enum Asked {
    Publish(RoomName),
    Search(RoomName),
    Subscribe(RoomName),
    /// The acknowledgement with which a reader leaves.
    LastAck(RoomName),
    Auth,
}

type Renewal = Pin<Box<dyn Future<Output = Result<String, Error>> + Send>>;

/// An authenticated connection.
pub(super) struct Line {
    pub socket: Socket,
    /// A new token, when it is time for one.
    pub renewal: Renewal,
    asked: HashMap<u64, Asked>,
    last_reference: u64,
    tokens: Tokens,
    pause: Duration,
}

impl Line {
    pub fn new(socket: Socket, tokens: Tokens) -> Self {
        let renewal = renewal(tokens.clone(), Duration::ZERO);
        Self {
            socket,
            renewal,
            asked: HashMap::new(),
            last_reference: CONNECT,
            tokens,
            pause: Duration::ZERO,
        }
    }

    /// Returns a new `ref`.
    pub fn reference(&mut self) -> u64 {
        self.last_reference += 1;
        self.last_reference
    }

    /// Queues a request, whose frame has this `ref`.
    pub fn ask(&mut self, reference: u64, asked: Asked, frame: String) {
        self.asked.insert(reference, asked);
        self.socket.queue(frame);
    }

    /// Returns the request to which an answer with this `ref` belongs.
    pub fn answered(&mut self, reference: Option<u64>) -> Option<Asked> {
        self.asked.remove(&reference?)
    }

    /// Takes the outcome of [`renewal`](Self::renewal).
    pub fn renew(&mut self, token: Result<String, Error>) {
        match token {
            Ok(token) => {
                let reference = self.reference();
                self.ask(reference, Asked::Auth, frames::auth(reference, &token));
                self.renewal = Box::pin(std::future::pending());
            }
            Err(error) => self.renewed(Err(error)),
        }
    }

    /// Takes the answer to `auth`. What fails is tried again after a growing pause, while the old token is
    /// valid.
    pub fn renewed(&mut self, outcome: Result<(), Error>) {
        self.pause = match outcome {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                warn!("the token is not renewed: {error}");
                let (shortest, longest) = RENEWAL_PAUSES;
                (self.pause * 2).clamp(shortest, longest)
            }
        };
        self.renewal = renewal(self.tokens.clone(), self.pause);
    }
}

/// Fetches a new token when it is time, and not before this pause.
fn renewal(tokens: Tokens, pause: Duration) -> Renewal {
    Box::pin(async move {
        loop {
            match tokens.renew_in().await {
                Some(time) => sleep(time.max(pause)).await,
                // The last attempt failed.
                None if !pause.is_zero() => sleep(pause).await,
                // The token does not expire.
                None => std::future::pending().await,
            }
            if let Some(token) = tokens.renew().await? {
                return Ok(token);
            }
        }
    })
}
