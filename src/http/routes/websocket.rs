//! `GET /v1/ws`: the upgrade. `connection` handles the WebSocket after it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::TryFutureExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tracing::Instrument;
use tungstenite::handshake::derive_accept_key;

use crate::http::extract::bearer;
use crate::http::problem::Problem;
use crate::net::admission::Place;
use crate::net::stream::{Socket, Stream};
use crate::protocol::{Encoding, ErrorCode, Failure};
use crate::session::{Shared, connection};

/// Answers the upgrade request.
#[utoipa::path(
    get, path = "/v1/ws", tag = "live",
    responses(
        (status = 101, description = "A WebSocket with the subprotocol `roomlog.v1.json` or `roomlog.v1.msgpack`; see docs/protocol.md"),
        (status = 400, description = "No WebSocket upgrade, or only unknown subprotocols", body = crate::http::problem::ProblemBody),
        (status = 503, description = "The server ends", body = crate::http::problem::ProblemBody),
    )
)]
pub(crate) async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let (encoding, key) = match handshake(request.headers()) {
        Ok(handshake) => handshake,
        Err(failure) => return Problem(failure).into_response(),
    };
    if shared.draining.is_cancelled() {
        return Problem(Failure::new(ErrorCode::Unavailable, "the server is shutting down")).into_response();
    }
    let mut headers = vec![
        (CONNECTION, "upgrade".to_owned()),
        (UPGRADE, "websocket".to_owned()),
        (SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
    ];
    if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        headers.push((SEC_WEBSOCKET_PROTOCOL, encoding.subprotocol().to_owned()));
    }
    let token = bearer(request.headers()).map(str::to_owned);
    let upgraded = hyper::upgrade::on(&mut request)
        .inspect_err(|error| tracing::debug!(%error, "an upgrade failed"))
        .in_current_span();
    // In a box, which is freed when it completes: the connection lives much longer, and should not keep it in
    // memory.
    let upgraded = Box::pin(upgraded);
    tokio::spawn(async move {
        if let Some((socket, place, early)) = upgraded.await.ok().and_then(socket_of) {
            connection::serve(shared, socket, place, early, encoding, token).await;
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, axum::response::AppendHeaders(headers)).into_response()
}

/// Checks the request, and selects the first encoding that the client requests and the server supports.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<(Encoding, String), Failure> {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err(Failure::bad_request("this route is for WebSockets: an upgrade is required"));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(Failure::bad_request("only WebSocket version 13 is supported"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| Failure::bad_request("the header Sec-WebSocket-Key is missing"))?;
    let mut asked = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if asked.peek().is_none() {
        return Ok((Encoding::Json, key.to_owned()));
    }
    let known = |asked: &str| Encoding::ALL.into_iter().find(|encoding| encoding.subprotocol() == asked);
    let encoding = asked.find_map(known).ok_or_else(|| {
        Failure::bad_request(
            "none of the requested subprotocols is supported; use roomlog.v1.json or roomlog.v1.msgpack",
        )
    })?;
    Ok((encoding, key.to_owned()))
}

fn socket_of(upgraded: Upgraded) -> Option<(Socket, Arc<Place>, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    let (socket, place) = parts.io.into_inner().into_parts()?;
    Some((socket, place, parts.read_buf))
}
