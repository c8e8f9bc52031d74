//! Access by pages of other origins. Browsers send the origin of a page, and requests from origins that are
//! not allowed are refused.

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::problem::Problem;
use crate::protocol::Failure;

/// Refuses requests from pages of other origins, and lets browsers read the responses for allowed ones.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return next.run(request).await;
    };
    if !is_allowed(request.headers(), &origin, &app.allowed_origins) {
        let message =
            "pages of this origin may not use this server; server.allowed_origins lists those that may";
        return Problem(Failure::forbidden(message)).into_response();
    }
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { preflight_answer() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static("retry-after, x-request-id");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

fn preflight_answer() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, accept, idempotency-key, last-event-id, x-request-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    (axum::http::StatusCode::NO_CONTENT, headers).into_response()
}

/// Returns whether the origin is allowed. The request's own origin, with the same host, always is.
fn is_allowed(headers: &HeaderMap, origin: &HeaderValue, allowed: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same = host.is_some_and(|host| {
        origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
    });
    same || allowed.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: &'static str, host: &'static str, allowed: &[&str]) -> bool {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        is_allowed(&headers, &HeaderValue::from_static(origin), &allowed)
    }

    #[test]
    fn own_and_listed_origins_pass() {
        assert!(check("http://localhost:8080", "localhost:8080", &[]));
        assert!(check("https://Chat.example", "chat.example", &[]));
        assert!(check("https://app.example", "chat.example", &["https://app.example"]));
        assert!(check("https://any.example", "chat.example", &["*"]));
        assert!(!check("https://evil.example", "chat.example", &["https://app.example"]));
        assert!(!check("http://localhost:8081", "localhost:8080", &[]));
        assert!(!check("null", "localhost:8080", &[]));
    }
}
