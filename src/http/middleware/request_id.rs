//! Gives each request an id: the client's own `X-Request-Id`, or a new one. The id is in the response, and in
//! each log line of the request.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use crate::telemetry::logs;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 64;

pub(crate) async fn name(request: Request, next: Next) -> Response {
    let id = request.headers().get(HEADER).and_then(accepted).map_or_else(made, str::to_owned);
    let span = logs::request(&id);
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().is_server_error() {
        span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "a request failed"));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

fn made() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Returns the client's id if it is safe to log.
fn accepted(value: &HeaderValue) -> Option<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    value.to_str().ok().filter(|text| (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed))
}
