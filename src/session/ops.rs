//! The requests of a client: each is mapped to a service and an answer. The match in [`Session::op`] is the
//! list of what a client can ask.

use std::sync::Arc;

use super::{Refusal, Session};
use crate::auth::Permission;
use crate::hub::send_queue::{Permit, WriteBatch};
use crate::hub::{Receives, Subscription};
use crate::log::{Appended, Unavailable};
use crate::protocol::decode::Incoming;
use crate::protocol::frame::{Answer, Ended, Frame};
use crate::protocol::request::{Draft, Request, Start};
use crate::protocol::{CloseCode, ErrorCode, Failure, MessageId, RoomName, SubscriptionName, encode};
use crate::service::acks::{Written, lease_lost};
use crate::service::leases;
use crate::service::reads;
use crate::service::subscriptions::{Durable, Open, Spec};
use crate::telemetry::{Queue, logs};

/// Consecutive requests above the rate that are refused before the connection is closed.
const REFUSALS_UNTIL_CLOSE: u32 = 100;

enum Reply {
    Answer(Answer),
    /// The answer was sent, or follows when Redis has confirmed.
    Sent,
}

impl Session {
    /// Handles a frame if that needs no waiting. Any other frame is returned, for [`Session::handle`]. The
    /// most frequent requests need no future this way.
    pub(crate) fn try_handle(&mut self, incoming: Incoming) -> Option<Incoming> {
        let is_ready = match &incoming.request {
            Ok(Request::Publish { .. }) => self.in_flight.available_permits() > 0,
            Ok(Request::Ack { room, id }) => {
                self.is_settled() && self.shared.services.heads.is_known(room, *id)
            }
            _ => false,
        };
        if !is_ready {
            return Some(incoming);
        }
        self.permit = self.connection.queue.has_room_now();
        if self.permit.is_none() {
            return Some(incoming);
        }
        let Incoming { reference, request } = incoming;
        let outcome = match request {
            Ok(Request::Publish { room, message }) => self.publish(reference, room, message),
            Ok(Request::Ack { room, id }) => self.ack(reference, &room, id),
            request => return Some(Incoming { reference, request }),
        };
        self.conclude(reference, outcome);
        None
    }

    /// Handles one frame, and answers it with `permit`. Returns when the next one may be handled.
    pub(crate) async fn handle(&mut self, incoming: Incoming, permit: Permit) {
        self.permit = Some(permit);
        let Incoming { reference, request } = incoming;
        let outcome = match request {
            Ok(request) => self.op(reference, request).await,
            Err(failure) => Err(failure.into()),
        };
        self.conclude(reference, outcome);
    }

    async fn op(&mut self, reference: Option<u64>, request: Request) -> Result<Reply, Refusal> {
        if !matches!(request, Request::Publish { .. }) {
            self.settled().await;
        }
        let shared = self.shared.clone();
        let services = &shared.services;
        let answer = match request {
            Request::Connect { .. } => {
                return Err(Failure::bad_request("this connection has already sent `connect`").into());
            }
            Request::Publish { room, message } => {
                if self.in_flight.available_permits() == 0 {
                    shared.metrics.full(Queue::InFlight);
                    let _ = self.in_flight.acquire().await; // `publish` acquires it again.
                }
                return self.publish(reference, room, message);
            }
            Request::Subscribe { room, start, durable } => {
                return self.subscribe(reference, room, start, durable).await;
            }
            Request::Unsubscribe { room, forget } => {
                self.unsubscribe(&room, forget).await?;
                Answer::Done {}
            }
            Request::Ack { room, id } => {
                self.durable(&room)?;
                services.heads.check(&room, id).await?;
                return self.ack(reference, &room, id);
            }
            Request::Read { room, id } => return self.read(reference, &room, id).await,
            Request::History { room, range, limit } => {
                Answer::History(services.history.page(&self.claims, &room, range, limit).await?)
            }
            Request::Signal { room, signal } => {
                let sent = services.pusher.signal(&self.claims, &room, self.connection.id, signal).await;
                rated(&mut self.refusals, sent)?;
                Answer::Done {}
            }
            Request::Auth { token } => {
                let expires = Some(self.renew(&token).await?);
                Answer::Renewed { expires }
            }
            Request::Ping => {
                self.send(&Frame::Pong { reference });
                return Ok(Reply::Sent);
            }
        };
        Ok(Reply::Answer(answer))
    }

    fn publish(&mut self, reference: Option<u64>, room: RoomName, message: Draft) -> Result<Reply, Refusal> {
        let reader = self.reads.then(|| (self.shared.clone(), room.clone(), self.claims.user.clone()));
        let admitted = self.shared.services.publisher.admit(&self.claims, room, message);
        let admitted = rated(&mut self.refusals, admitted)?;
        let in_flight = self.in_flight.clone().try_acquire_owned();
        let (session, encoding, permit) = (self.connection.id, self.encoding, self.permit.take());
        admitted.submit(Box::new(move |outcome: Result<Appended, Unavailable>, writes: &mut WriteBatch| {
            if let (Ok(appended), Some((shared, room, user))) = (outcome, reader) {
                shared.services.reads.own(&room, &user, appended.id);
            }
            match (outcome, permit) {
                (Ok(appended), Some(permit)) if reference.is_some() => {
                    let answer = Answer::Published { id: appended.id, duplicate: appended.duplicate };
                    writes.push(permit, encode::frame(encoding, &Frame::Ok { reference, answer }));
                }
                (Err(Unavailable), Some(permit)) => {
                    logs::session(session).in_scope(|| tracing::debug!("a publish was not confirmed"));
                    let failure = Failure::unavailable();
                    writes.push(permit, encode::frame(encoding, &Frame::error(reference, failure)));
                }
                _ => {}
            }
            drop(in_flight);
        }));
        Ok(Reply::Sent)
    }

    /// Subscribes, answers, and then delivers. This connection's former subscription to the room is replaced
    /// once the new one is open. If that fails, the former one continues.
    async fn subscribe(
        &mut self,
        reference: Option<u64>,
        room: RoomName,
        start: Option<Start>,
        durable: Option<SubscriptionName>,
    ) -> Result<Reply, Refusal> {
        if self.subscriptions.get(&room).is_some_and(Open::has_ended) {
            self.release(&room).await;
        }
        let limit = self.shared.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            self.subscriptions.retain(|_, subscription| !subscription.has_ended());
        }
        let former = self.subscriptions.get(&room);
        if former.is_none() && self.subscriptions.len() >= limit {
            let message = format!("a connection has at most {limit} subscriptions");
            return Err(Failure::new(ErrorCode::TooMany, message).into());
        }
        let lease = |name| {
            let holder = (&*self.shared.node, self.connection.id, self.leases);
            Durable::Take(leases::of_connection(&self.claims.user, &name, holder))
        };
        let spec = Spec {
            room: room.clone(),
            start,
            durable: durable.map(lease),
            session: self.connection.id,
            queue: self.connection.queue.clone(),
            receives: Receives {
                format: self.encoding.into(),
                pushes: true,
                sender: Some(self.connection.id),
            },
        };
        self.leases += 1;
        let pending = self.shared.services.subscriptions.open(&self.claims, spec, former).await?;
        self.release(&room).await;
        if reference.is_some() {
            let (position, head, created) = (pending.position, pending.head, pending.created);
            let answer = Answer::Subscribed { room: room.clone(), position, head, created };
            self.send(&Frame::Ok { reference, answer });
        }
        self.subscriptions.insert(room, pending.start());
        Ok(Reply::Sent)
    }

    async fn release(&mut self, room: &RoomName) {
        if let Some(subscription) = self.subscriptions.remove(room) {
            let _ = subscription.release().await; // It has ended regardless; the ack is retried.
        }
    }

    async fn unsubscribe(&mut self, room: &RoomName, forget: bool) -> Result<(), Refusal> {
        self.subscribed(room)?;
        let Some(subscription) = self.subscriptions.remove(room) else { return Ok(()) };
        let lease = subscription.durable().and_then(|subscription| subscription.lease.clone());
        let released = subscription.release().await;
        if let Some(lease) = lease.filter(|_| forget) {
            return Ok(self.shared.services.subscriptions.forget(room, &lease).await?);
        }
        released.map_err(|Unavailable| {
            let message = "the subscription has ended, but Redis did not confirm its last acknowledgement";
            Failure { message: message.into(), ..Failure::unavailable() }.into()
        })
    }

    fn ack(&mut self, reference: Option<u64>, room: &RoomName, id: MessageId) -> Result<Reply, Refusal> {
        let subscription = self.durable(room)?.clone();
        let (session, encoding) = (self.connection.id, self.encoding);
        let awaited = reference.and_then(|reference| Some((reference, self.permit.take()?)));
        let written = awaited.map(|(reference, permit)| -> Written {
            Box::new(move |outcome, writes| {
                let failure = match outcome {
                    Ok(true) => None,
                    Ok(false) => Some(lease_lost()),
                    Err(Unavailable) => {
                        logs::session(session).in_scope(|| tracing::debug!("an ack was not written"));
                        Some(Failure::unavailable())
                    }
                };
                let frame = match failure {
                    None => Frame::Ok { reference: Some(reference), answer: Answer::Done {} },
                    Some(failure) => Frame::error(Some(reference), failure),
                };
                writes.push(permit, encode::frame(encoding, &frame));
            })
        });
        self.shared.services.acks.note(&subscription, id, written);
        Ok(Reply::Sent)
    }

    async fn read(
        &mut self,
        reference: Option<u64>,
        room: &RoomName,
        id: MessageId,
    ) -> Result<Reply, Refusal> {
        self.reads = true;
        let (encoding, permit) = (self.encoding, &mut self.permit);
        let written = || {
            let (reference, permit) = (reference?, permit.take()?);
            let written: reads::Written = Box::new(move |outcome, writes| {
                let frame = match outcome {
                    Ok(()) => Frame::Ok { reference: Some(reference), answer: Answer::Done {} },
                    Err(Unavailable) => Frame::error(Some(reference), Failure::unavailable()),
                };
                writes.push(permit, encode::frame(encoding, &frame));
            });
            Some(written)
        };
        self.shared.services.reads.read(&self.claims, room, id, written).await?;
        Ok(Reply::Sent)
    }

    fn durable(&self, room: &RoomName) -> Result<&Arc<Subscription>, Failure> {
        let refused = || Failure::new(ErrorCode::NotDurable, "only durable subscriptions are acknowledged");
        self.subscribed(room)?.durable().ok_or_else(refused)
    }

    fn subscribed(&self, room: &RoomName) -> Result<&Open, Failure> {
        self.subscriptions.get(room).filter(|subscription| !subscription.has_ended()).ok_or_else(|| {
            Failure::new(ErrorCode::NotSubscribed, "this connection is not subscribed to the room")
        })
    }

    /// Renews the token, and ends the subscriptions that the new one does not grant. Returns its expiry, in
    /// Unix seconds. After a failure, the old token remains in force until it expires.
    async fn renew(&mut self, token: &str) -> Result<u64, Refusal> {
        let access = &self.shared.services.access;
        let renewed = access.authenticate(token).await?;
        if renewed.user != self.claims.user {
            return Err(Failure::forbidden("the new token belongs to another user").into());
        }
        self.claims = renewed;
        self.connection.set_claims(self.claims.clone());
        let revoked = |failure| Refusal::Closes(failure, CloseCode::TokenRevoked);
        access.not_revoked(&self.claims).map_err(revoked)?;
        let is_forbidden = |room: &RoomName| self.claims.require(room, Permission::Read).is_err();
        let forbidden: Vec<RoomName> =
            self.subscriptions.keys().filter(|room| is_forbidden(room)).cloned().collect();
        for room in forbidden {
            if let Some(subscription) = self.subscriptions.get(&room) {
                subscription.end(Ended::Forbidden);
            }
            self.release(&room).await;
        }
        Ok(self.claims.expires)
    }

    fn conclude(&mut self, reference: Option<u64>, outcome: Result<Reply, Refusal>) {
        match outcome {
            Ok(Reply::Answer(answer)) if reference.is_some() => self.send(&Frame::Ok { reference, answer }),
            Ok(_) => {}
            Err(Refusal::Failed(failure)) => self.send(&Frame::error(reference, failure)),
            Err(Refusal::Closes(failure, code)) => {
                self.send(&Frame::error(reference, failure));
                self.connection.close(code, None, &self.shared.metrics);
            }
        }
        self.permit = None;
    }

    fn send(&mut self, frame: &Frame) {
        if let Some(permit) = self.permit.take() {
            permit.push(encode::frame(self.encoding, frame));
        }
    }
}

/// Counts consecutive requests above the rate, and closes a connection that ignores the limit.
fn rated<T>(refusals: &mut u32, outcome: Result<T, Failure>) -> Result<T, Refusal> {
    match outcome {
        Err(failure) if failure.code == ErrorCode::RateLimited => {
            *refusals += 1;
            if *refusals >= REFUSALS_UNTIL_CLOSE {
                return Err(Refusal::Closes(failure, CloseCode::LimitsIgnored));
            }
            Err(failure.into())
        }
        outcome => {
            *refusals = 0;
            Ok(outcome?)
        }
    }
}
