//! Routes for operators and their tools: revocation, health, metrics.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::background::health::Health;
use crate::http::extract::{Bearer, Body};
use crate::http::problem::{Problem, ProblemBody};
use crate::protocol::Failure;
use crate::service::Services;
use crate::service::access::Revoked;

/// A revocation of one token, or of a user's tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewRevocation {
    /// The `jti` of the token.
    jti: Option<String>,
    /// The user.
    user: Option<String>,
    /// Revokes the user's tokens issued before this time, in Unix seconds; now by default.
    before: Option<u64>,
    /// With `jti`: when the token expires, in Unix seconds, if known. The revocation is removed then.
    expires: Option<u64>,
}

/// Revokes a token, or a user's tokens. Every node closes the live connections that use them.
#[utoipa::path(
    post, path = "/v1/revocations", tag = "operations",
    request_body = NewRevocation,
    responses(
        (status = 204, description = "Revoked"),
        Problem,
    )
)]
pub(crate) async fn revoke(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    body: Body,
) -> Result<StatusCode, Problem> {
    let NewRevocation { jti, user, before, expires } = body.read()?;
    let revoked = match (jti, user, before, expires) {
        (Some(jti), None, None, expires) if !jti.is_empty() => Revoked::Token { jti, expires },
        (None, Some(user), before, None) => Revoked::User { user: user.parse()?, before },
        _ => return Err(Failure::bad_request("the body is {jti, expires?}, or {user, before?}").into()),
    };
    services.access.revoke(&bearer, revoked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, description = "It lives", body = String)))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Returns whether the node can serve: it received its latest probe in time, and is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Ready, and how durable messages are", body = String),
        (status = 503, content_type = "application/problem+json", description = "Not ready, and why", body = ProblemBody),
    )
)]
pub(crate) async fn ready(State(health): State<Arc<Health>>) -> Result<String, Problem> {
    Ok(format!("ready; {}\n", health.ready()?))
}

/// Returns the metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "Prometheus text", body = String)))]
pub(crate) async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], health.render_metrics())
}

/// Returns the OpenAPI 3.1 document of this interface.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, description = "The document", body = serde_json::Value)))]
pub(crate) async fn openapi() -> impl IntoResponse {
    /// Generated once, since anyone may request it.
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&crate::http::router::document()).unwrap_or_default().into());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}
