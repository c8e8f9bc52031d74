//! The handshake: a connection before its client has authenticated. `connect` consumes it and yields the
//! session; any other frame, and any failure, ends the connection.

use std::sync::Arc;
use std::time::Duration;

use super::{Session, Shared};
use crate::auth::Claims;
use crate::connections::Connection;
use crate::connections::keepalive::PING_INTERVAL;
use crate::hub::send_queue::Permit;
use crate::protocol::decode::Incoming;
use crate::protocol::frame::{Answer, Frame};
use crate::protocol::request::Request;
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, encode};

pub(crate) struct Unauthenticated {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    encoding: Encoding,
    /// The token that came with the upgrade.
    offered: Option<String>,
}

impl Unauthenticated {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        encoding: Encoding,
        offered: Option<String>,
    ) -> Self {
        Self { shared, connection, encoding, offered }
    }

    /// Handles the client's first frame, and answers it with `permit`. Returns the session, or asks the
    /// connection to end.
    pub(crate) async fn connect(self, incoming: Incoming, permit: Permit) -> Option<Session> {
        let Incoming { reference, request } = incoming;
        let (frame, session) = match self.authenticate(request).await {
            Ok(claims) => {
                let answer = Answer::Connected {
                    session: self.connection.id,
                    user: claims.user.clone(),
                    ping: PING_INTERVAL.as_secs(),
                    expires: Some(claims.expires),
                    max_message: self.shared.limits.max_message,
                };
                let Self { shared, connection, encoding, .. } = self;
                let frame = Frame::Ok { reference, answer };
                let frame = reference.is_some().then(|| encode::frame(encoding, &frame));
                (frame, Some(Session::new(shared, connection, claims, encoding)))
            }
            Err(failure) => {
                let code = close_code(failure.code);
                let retry_after = failure.retry_after_ms.filter(|_| code == CloseCode::Unavailable);
                let retry_after = retry_after.map(Duration::from_millis);
                self.connection.close(code, retry_after, &self.shared.metrics);
                (Some(encode::frame(self.encoding, &Frame::error(reference, failure))), None)
            }
        };
        if let Some(frame) = frame {
            permit.push(frame);
        }
        session
    }

    async fn authenticate(&self, request: Result<Request, Failure>) -> Result<Arc<Claims>, Failure> {
        let unauthenticated = |message| Failure::new(ErrorCode::Unauthenticated, message);
        let Request::Connect { token } = request? else {
            return Err(unauthenticated("the first frame must be `connect`"));
        };
        let missing = || unauthenticated("`connect` needs a `token`, unless one came with the upgrade");
        let token = token.as_ref().or(self.offered.as_ref()).ok_or_else(missing)?;
        let access = &self.shared.services.access;
        let claims = access.authenticate(token).await?;
        self.connection.set_claims(claims.clone());
        access.not_revoked(&claims)?;
        Ok(claims)
    }
}

fn close_code(code: ErrorCode) -> CloseCode {
    match code {
        ErrorCode::TokenExpired => CloseCode::TokenExpired,
        ErrorCode::TokenRevoked => CloseCode::TokenRevoked,
        ErrorCode::Unavailable => CloseCode::Unavailable,
        _ => CloseCode::Unauthenticated,
    }
}
