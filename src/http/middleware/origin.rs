//! Access by pages of other origins. Browsers send the origin of a page, and requests from origins that are
//! not allowed are refused.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::problem::Problem;
use crate::protocol::Failure;

pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return next.run(request).await;
    };
    if !app.origins.allow(request.headers(), &origin) {
        return refusal(origin);
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

/// Lets the page read why it is refused. It learns nothing else.
fn refusal(origin: HeaderValue) -> Response {
    let name = String::from_utf8_lossy(origin.as_bytes());
    let message = format!(
        "pages of {name} may not use this server; allow them with --allow-origin {name} (server.allowed_origins)"
    );
    let mut response = Problem(Failure::forbidden(message)).into_response();
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// The origins whose pages may use the server.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Origins, or `*` for all.
    pub(crate) listed: Vec<String>,
    /// True to allow pages of this machine, on any port: in development.
    pub(crate) loopback: bool,
}

impl Origins {
    /// Returns whether the origin is allowed. The request's own origin, with the same host, always is.
    fn allow(&self, headers: &HeaderMap, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let Some((_, page)) = origin.split_once("://") else { return self.is_listed(origin) };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| page.eq_ignore_ascii_case(host))
            || (self.loopback && names_this_machine(page))
            || self.is_listed(origin)
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.listed.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
    }
}

/// Returns whether a `Host` is a name of this machine that cannot be given to another. Any other name could
/// belong to a foreign page and be resolved to this machine (DNS rebinding), so that the browser takes both
/// for one origin.
pub(crate) fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: &'static str, host: &'static str, allowed: &[&str]) -> bool {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let listed = allowed.iter().map(ToString::to_string).collect();
        Origins { listed, loopback: false }.allow(&headers, &HeaderValue::from_static(origin))
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

    #[test]
    fn development_allows_all_pages_of_this_machine_and_no_other() {
        let allows = |origin: &'static str| {
            let origins = Origins { listed: Vec::new(), loopback: true };
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1:8080"))]);
            origins.allow(&headers, &HeaderValue::from_static(origin))
        };
        for good in
            ["http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:8081", "https://localhost"]
        {
            assert!(allows(good), "{good}");
        }
        for bad in ["http://localhost.evil.example", "http://evil.example:5173", "null", "http://10.0.0.1:1"]
        {
            assert!(!allows(bad), "{bad}");
        }
    }
}
