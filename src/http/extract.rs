//! Extractors for requests, and responses in either encoding.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::App;
use super::problem::Problem;
use crate::auth::Claims;
use crate::log::DurableId;
use crate::net::admission::Place;
use crate::protocol::{Encoding, ErrorCode, Failure, RoomName};

const MSGPACK: &str = "application/msgpack";

/// Bytes beyond the limit that are read so that the client receives the response.
const DISCARDED: usize = 16 * 1024 * 1024;

/// Time allowed for a body in addition to the time for its bytes.
const BODY_STARTS_WITHIN: Duration = Duration::from_secs(10);

/// Lowest rate of a body, in bytes per second.
const SLOWEST: f64 = 16_384.0;

pub(crate) struct Bearer(pub Arc<Claims>);

impl std::ops::Deref for Bearer {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or_else(|| {
            Failure::new(ErrorCode::Unauthenticated, "the header `Authorization: Bearer <token>` is missing")
        })?;
        let claims = app.shared.services.access.authenticate(token).await?;
        if let Some(place) = parts.extensions.get::<Arc<Place>>() {
            place.known();
        }
        Ok(Self(claims))
    }
}

pub(crate) struct Room(pub RoomName);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(path(parts, state, "room").await?.parse()?))
    }
}

pub(crate) struct Id(pub crate::protocol::MessageId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(path(parts, state, "id").await?.parse()?))
    }
}

pub(crate) struct DurablePath(pub DurableId);

impl<S: Send + Sync> FromRequestParts<S> for DurablePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let user = path(parts, state, "user").await?.parse()?;
        let name = path(parts, state, "name").await?.parse()?;
        Ok(Self(DurableId::new(&user, &name)))
    }
}

async fn path<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Failure::bad_request("the path is not UTF-8"))?;
    let value = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    Ok(value.unwrap_or_default())
}

pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let query =
            query.map_err(|error| Failure::bad_request(format!("the query: {}", error.body_text())))?;
        Ok(Self(query.0))
    }
}

pub(crate) struct Body(pub Encoding, pub Bytes);

impl Body {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let read = match self.0 {
            Encoding::Json => serde_json::from_slice(&self.1).map_err(|error| error.to_string()),
            Encoding::MessagePack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(&self.1[..]);
                reader.set_max_depth(crate::protocol::data::MAX_DEPTH);
                T::deserialize(&mut reader).map_err(|error| error.to_string())
            }
        };
        read.map_err(|error| Failure::bad_request(format!("the body: {error}")).into())
    }
}

impl FromRequest<App> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let encoding = if names_msgpack(request.headers(), header::CONTENT_TYPE) {
            Encoding::MessagePack
        } else {
            Encoding::Json
        };
        let limit = app.shared.limits.max_payload();
        Ok(Self(encoding, read(request.into_body(), limit).await?))
    }
}

/// Reads a body of at most `limit` bytes. Excess bytes are read and discarded, up to a bound: a client that
/// is still sending when the connection is closed would not see the response.
async fn read(mut body: axum::body::Body, limit: usize) -> Result<Bytes, Failure> {
    let started = Instant::now();
    let (mut taken, mut beyond) = (Vec::new(), 0);
    loop {
        let had = taken.len() + beyond;
        let due = started + BODY_STARTS_WITHIN + Duration::from_secs_f64(had as f64 / SLOWEST);
        let frame = tokio::time::timeout_at(due, body.frame()).await;
        let frame = frame.map_err(|_| Failure::bad_request("the body arrives too slowly"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Failure::bad_request("the body cannot be read"))?;
        let Ok(data) = frame.into_data() else { continue };
        if beyond == 0 && taken.len() + data.len() <= limit {
            taken.extend_from_slice(&data);
        } else {
            beyond += data.len();
        }
        if beyond > DISCARDED {
            break;
        }
    }
    if beyond == 0 {
        return Ok(taken.into());
    }
    Err(Failure::new(
        ErrorCode::TooLarge,
        format!("a body has at most {limit} bytes (16 times limits.max_message)"),
    ))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Accept(Encoding);

impl<S: Send + Sync> FromRequestParts<S> for Accept {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let msgpack = names_msgpack(&parts.headers, header::ACCEPT);
        Ok(Self(if msgpack { Encoding::MessagePack } else { Encoding::Json }))
    }
}

impl Accept {
    pub(crate) fn reply(self, status: StatusCode, value: &impl Serialize) -> Response {
        let (content_type, body) = match self.0 {
            Encoding::Json => {
                ("application/json", serde_json::to_vec(value).map_err(|error| error.to_string()))
            }
            Encoding::MessagePack => {
                (MSGPACK, rmp_serde::to_vec_named(value).map_err(|error| error.to_string()))
            }
        };
        match body {
            Ok(body) => (status, [(header::CONTENT_TYPE, content_type)], body).into_response(),
            Err(error) => {
                tracing::error!(%error, "a response could not be encoded");
                Problem(Failure::new(ErrorCode::Internal, "the response could not be encoded"))
                    .into_response()
            }
        }
    }
}

fn names_msgpack(headers: &HeaderMap, name: header::HeaderName) -> bool {
    let values = headers.get_all(name);
    values.iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|part| {
            let kind = part.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case(MSGPACK) || kind.eq_ignore_ascii_case("application/x-msgpack")
        })
    })
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
