//! One connection's session: requests go in, frames come out of its outbox. Independent of sockets.
//!
//! Requests take effect in the order sent. Publishes continue while the next request is read, since the
//! appender keeps their order. Any other request waits until they have been answered.

pub mod acks;
mod backlog;
pub mod connection;
pub mod durable;
pub mod held;
mod in_flight;
pub(crate) mod inbox;
pub mod rate;
pub mod registry;
pub mod signal;
mod socket;
mod subscribe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use self::in_flight::InFlight;
use self::registry::{Connection, PING_INTERVAL};
use crate::auth::{Claims, Permission};
use crate::history;
use crate::hub::outbox::{Permit, Writes};
use crate::hub::{Holding, Subscription};
use crate::log::{Appended, Unavailable};
use crate::node::Node;
use crate::protocol::decode::Incoming;
use crate::protocol::frame::{Answer, Ended, Frame};
use crate::protocol::request::{Draft, Request};
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, MessageId, RoomName, encode};
use crate::telemetry::{Queue, logs};

/// Requests above the rate that are refused before the connection is closed.
const REFUSALS_UNTIL_CLOSE: u32 = 100;

/// Subscriptions that are released concurrently when a session ends.
const RELEASES_AT_ONCE: usize = 64;

pub struct Session {
    node: Arc<Node>,
    connection: Arc<Connection>,
    encoding: Encoding,
    /// The token that came with the upgrade.
    offered: Option<String>,
    subscriptions: HashMap<RoomName, Arc<Subscription>>,
    /// Number of subscribes so far, which distinguishes this connection's holders.
    holdings: u64,
    in_flight: Arc<InFlight>,
    /// Consecutive requests above the rate.
    refusals: u32,
    /// For the answer to the frame that is being handled.
    permit: Option<Permit>,
}

/// A failed request: reported to the client, or fatal to the connection.
enum Refusal {
    Failed(Failure),
    Closes(Failure, CloseCode),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unavailable> for Refusal {
    fn from(_: Unavailable) -> Self {
        Self::Failed(Failure::unavailable())
    }
}

impl Session {
    /// Creates a session that awaits `connect`.
    pub fn new(
        node: Arc<Node>,
        connection: Arc<Connection>,
        encoding: Encoding,
        offered: Option<String>,
    ) -> Self {
        let limits = &node.config.limits;
        Self {
            in_flight: Arc::new(InFlight::new(limits.publishes_in_flight)),
            refusals: 0,
            node,
            connection,
            encoding,
            offered,
            subscriptions: HashMap::new(),
            holdings: 0,
            permit: None,
        }
    }

    /// Handles a frame if that needs no waiting. Any other frame is returned, for [`Session::handle`]. The
    /// most frequent requests need no future this way.
    pub fn try_handle(&mut self, incoming: Incoming) -> Option<Incoming> {
        let Some(claims) = self.connection.claims() else { return Some(incoming) };
        let ready = match &incoming.request {
            Ok(Request::Publish { .. }) => !self.in_flight.is_full(),
            Ok(Request::Ack { room, id }) => {
                self.in_flight.is_empty() && durable::is_known(&self.node, room, *id)
            }
            _ => false,
        };
        if !ready {
            return Some(incoming);
        }
        self.permit = self.connection.outbox.has_room_now();
        if self.permit.is_none() {
            return Some(incoming);
        }
        let outcome = match incoming.request {
            Ok(Request::Publish { room, message }) => {
                self.publish(&claims, incoming.reference, room, message)
            }
            Ok(Request::Ack { room, id }) => self.ack(incoming.reference, &room, id),
            request => return Some(Incoming { request, ..incoming }),
        };
        self.conclude(incoming.reference, outcome);
        self.permit = None;
        None
    }

    /// Handles one frame, and answers it with `permit`. Returns when the next one may be handled.
    pub async fn handle(&mut self, incoming: Incoming, permit: Permit) {
        self.permit = Some(permit);
        let reference = incoming.reference;
        let outcome = match incoming.request {
            Ok(request) => self.request(reference, request).await,
            Err(failure) if self.connection.claims().is_none() => {
                Err(Refusal::Closes(failure, CloseCode::Unauthenticated))
            }
            Err(failure) => Err(failure.into()),
        };
        self.conclude(reference, outcome);
        self.permit = None;
    }

    fn conclude(&mut self, reference: Option<u64>, outcome: Result<(), Refusal>) {
        match outcome {
            Ok(()) => {}
            Err(Refusal::Failed(failure)) => self.send(&Frame::error(reference, &failure)),
            Err(Refusal::Closes(failure, code)) => {
                self.send(&Frame::error(reference, &failure));
                let retry_after = failure.retry_after_ms.filter(|_| code == CloseCode::Unavailable);
                self.connection.close(code, retry_after.map(Duration::from_millis), &self.node.metrics);
            }
        }
    }

    /// Ends the session. Its publishes are answered, its subscriptions end, its acknowledgements are written,
    /// and its durable subscriptions are given up.
    pub async fn end(mut self) {
        self.in_flight.drained().await;
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let release = async |subscription: Arc<Subscription>| {
            let _there_is_nobody_to_tell = self.release(&subscription).await;
        };
        stream::iter(subscriptions.into_values()).for_each_concurrent(RELEASES_AT_ONCE, release).await;
    }

    async fn request(&mut self, reference: Option<u64>, request: Request) -> Result<(), Refusal> {
        let claims = match (self.connection.claims(), request) {
            (None, Request::Connect { token }) => return self.connect(reference, token).await,
            (None, _) => {
                let failure = Failure::new(ErrorCode::Unauthenticated, "the first frame must be `connect`");
                return Err(Refusal::Closes(failure, CloseCode::Unauthenticated));
            }
            (Some(_), Request::Connect { .. }) => {
                return Err(Failure::bad_request("this connection is connected already").into());
            }
            (Some(claims), request) => (claims, request),
        };
        match claims {
            (claims, Request::Publish { room, message }) => {
                if self.in_flight.is_full() {
                    self.node.metrics.full(Queue::InFlight);
                    self.in_flight.has_room().await;
                }
                self.publish(&claims, reference, room, message)
            }
            (claims, request) => {
                self.in_flight.drained().await;
                self.settled(&claims, reference, request).await
            }
        }
    }

    /// Handles a request that must wait for the publishes before it.
    async fn settled(
        &mut self,
        claims: &Claims,
        reference: Option<u64>,
        request: Request,
    ) -> Result<(), Refusal> {
        match request {
            Request::Connect { .. } | Request::Publish { .. } => {}
            Request::Subscribe { room, start, durable } => {
                claims.require(&room, Permission::Read)?;
                self.subscribe(claims, reference, room, start, durable).await?;
            }
            Request::Unsubscribe { room, forget } => {
                self.unsubscribe(&room, forget).await?;
                self.answer(reference, Answer::Done {});
            }
            Request::Ack { room, id } => {
                held_by(self.subscribed(&room)?)?;
                durable::check(&self.node, &room, id).await?;
                self.ack(reference, &room, id)?;
            }
            Request::History { room, range, limit } => {
                claims.require(&room, Permission::Read)?;
                let page = history::page(&self.node.store, &room, range, limit).await?;
                self.answer(reference, Answer::History(page));
            }
            Request::Signal { room, signal } => {
                claims.require(&room, Permission::Write)?;
                self.spend_rate(claims)?;
                signal::send(&self.node, &room, self.connection.id, claims, signal).await?;
                self.answer(reference, Answer::Done {});
            }
            Request::Auth { token } => {
                let renewed = self.verify(&token).await?;
                if renewed.user != claims.user {
                    return Err(Failure::forbidden("the new token is of another user").into());
                }
                let expires = Some(renewed.expires);
                self.adopt(renewed)?;
                self.drop_forbidden().await;
                self.answer(reference, Answer::Renewed { expires });
            }
            Request::Ping => self.send(&Frame::Pong { reference }),
        }
        Ok(())
    }

    async fn connect(&mut self, reference: Option<u64>, token: Option<String>) -> Result<(), Refusal> {
        let Some(token) = token.or_else(|| self.offered.take()) else {
            let message = "`connect` needs a `token`, unless the upgrade brought one";
            let failure = Failure::new(ErrorCode::Unauthenticated, message);
            return Err(Refusal::Closes(failure, CloseCode::Unauthenticated));
        };
        let claims = self.verify(&token).await?;
        let answer = Answer::Connected {
            session: self.connection.id,
            user: claims.user.clone(),
            ping: PING_INTERVAL.as_secs(),
            expires: Some(claims.expires),
            max_message: self.node.config.limits.max_message,
        };
        self.adopt(claims)?;
        self.answer(reference, answer);
        Ok(())
    }

    /// Applies the claims to the connection.
    fn adopt(&self, claims: Arc<Claims>) -> Result<(), Refusal> {
        self.connection.set_claims(claims.clone());
        let revoked = |failure| Refusal::Closes(failure, CloseCode::TokenRevoked);
        self.node.not_revoked(&claims).map_err(revoked)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        self.node.authenticate(token).await.map_err(|failure| {
            let code = match failure.code {
                ErrorCode::TokenExpired => CloseCode::TokenExpired,
                ErrorCode::TokenRevoked => CloseCode::TokenRevoked,
                ErrorCode::Unavailable => CloseCode::Unavailable,
                _ => CloseCode::Unauthenticated,
            };
            if self.connection.claims().is_some() {
                // After a failed renewal, the old token remains in force until it expires.
                Refusal::Failed(failure)
            } else {
                Refusal::Closes(failure, code)
            }
        })
    }

    fn publish(
        &mut self,
        claims: &Claims,
        reference: Option<u64>,
        room: RoomName,
        message: Draft,
    ) -> Result<(), Refusal> {
        claims.require(&room, Permission::Write)?;
        self.spend_rate(claims)?;
        self.node.takes(&room, &message.data)?;
        let landing = self.in_flight.take_off();
        let (session, encoding) = (self.connection.id, self.encoding);
        let permit = self.permit.take();
        let confirm = Box::new(move |outcome: Result<Appended, Unavailable>, writes: &mut Writes| {
            match (outcome, permit) {
                (_, None) => {}
                (Ok(appended), Some(permit)) if reference.is_some() => {
                    let answer = Answer::Published { id: appended.id, duplicate: appended.duplicate };
                    writes.push(permit, encode::frame(encoding, &Frame::Ok { reference, answer }));
                }
                (Ok(_), _) => {}
                (Err(Unavailable), Some(permit)) => {
                    logs::session(session).in_scope(|| tracing::debug!("a publish was not confirmed"));
                    let failure = Failure::unavailable();
                    writes.push(permit, encode::frame(encoding, &Frame::error(reference, &failure)));
                }
            }
            drop(landing);
        });
        self.node.appender.submit(&room, claims.user.clone(), message, confirm);
        Ok(())
    }

    /// Acknowledges a message that exists.
    fn ack(&mut self, reference: Option<u64>, room: &RoomName, id: MessageId) -> Result<(), Refusal> {
        let subscription = self.subscribed(room)?.clone();
        let holding = held_by(&subscription)?;
        let (session, encoding) = (self.connection.id, self.encoding);
        let awaited = reference.and_then(|reference| Some((reference, self.permit.take()?)));
        let written = awaited.map(|(reference, permit)| -> acks::Written {
            Box::new(move |outcome, writes| {
                let failure = match outcome {
                    Ok(true) => None,
                    Ok(false) => Some(durable::lost()),
                    Err(Unavailable) => {
                        logs::session(session).in_scope(|| tracing::debug!("an ack was not written"));
                        Some(Failure::unavailable())
                    }
                };
                let frame = match &failure {
                    None => Frame::Ok { reference: Some(reference), answer: Answer::Done {} },
                    Some(failure) => Frame::error(Some(reference), failure),
                };
                writes.push(permit, encode::frame(encoding, &frame));
            })
        });
        self.node.acks.note(room, holding, Some(&subscription), id, written);
        Ok(())
    }

    fn subscribed(&self, room: &RoomName) -> Result<&Arc<Subscription>, Failure> {
        self.subscriptions.get(room).filter(|subscription| !subscription.has_ended()).ok_or_else(|| {
            Failure::new(ErrorCode::NotSubscribed, "this connection does not subscribe to the room")
        })
    }

    /// Ends the subscriptions that a renewed token no longer grants.
    async fn drop_forbidden(&mut self) {
        let Some(claims) = self.connection.claims() else { return };
        let forbidden: Vec<RoomName> = self
            .subscriptions
            .keys()
            .filter(|room| claims.require(room, Permission::Read).is_err())
            .cloned()
            .collect();
        for room in forbidden {
            if let Some(subscription) = self.subscriptions.remove(&room) {
                self.node.hub.dismiss(&subscription, Ended::Forbidden);
                let _it_has_ended_all_the_same = self.release(&subscription).await;
            }
        }
    }

    fn spend_rate(&mut self, claims: &Claims) -> Result<(), Refusal> {
        let Err(wait) = self.node.publishing.spend(&claims.user, Instant::now()) else {
            self.refusals = 0;
            return Ok(());
        };
        self.refusals += 1;
        let failure = rate::refusal(rate::PUBLISHES, wait);
        if self.refusals >= REFUSALS_UNTIL_CLOSE {
            return Err(Refusal::Closes(failure, CloseCode::LimitsIgnored));
        }
        Err(failure.into())
    }

    fn answer(&mut self, reference: Option<u64>, answer: Answer) {
        if reference.is_some() {
            self.send(&Frame::Ok { reference, answer });
        }
    }

    /// Answers the frame that is being handled.
    fn send(&mut self, frame: &Frame<'_>) {
        if let Some(permit) = self.permit.take() {
            permit.push(encode::frame(self.encoding, frame));
        }
    }
}

/// Returns the hold of a subscription that can be acknowledged.
fn held_by(subscription: &Subscription) -> Result<&Holding, Failure> {
    let refused = || Failure::new(ErrorCode::NotDurable, "only durable subscriptions are acknowledged");
    subscription.durable.as_ref().ok_or_else(refused)
}
