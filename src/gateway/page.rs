//! The page at `/`, which shows the protocol live: three files in the binary, and in development a token for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::api::extract::Query;
use crate::api::problem::Problem;
use crate::auth::{Permission, RoomGrants, mint};
use crate::node::Node;
use crate::protocol::{ErrorCode, Failure, UserId};

/// How long a token for the page holds.
const TTL: Duration = Duration::from_secs(12 * 3600);

/// Nothing but the page's own files, and connections: what is published must never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page; with `dev`, also tokens for whoever can reach this server.
pub fn routes(dev: bool) -> Router<Arc<Node>> {
    let file = |kind: &'static str, text: &'static str| get(move || async move { answer(kind, text) });
    let page = Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page/page.css")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page/page.js")));
    if dev { page.route("/dev/token", get(dev_token)) } else { page }
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The files change with the program, and are small.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// Whose token.
#[derive(Deserialize)]
struct Whose {
    user: String,
}

async fn dev_token(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    Query(Whose { user }): Query<Whose>,
) -> Result<Response, Problem> {
    if !headers.get(HOST).is_some_and(names_this_machine) {
        let message =
            "tokens for development are given to pages of http://localhost and http://127.0.0.1 only";
        return Err(Failure::forbidden(message).into());
    }
    let user: UserId = user.parse()?;
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a token for development cannot be made");
        Failure::new(ErrorCode::Internal, "the token cannot be made")
    };
    let all = "*".parse().map_err(|error| internal(&error))?;
    let grants = RoomGrants::from([(all, vec![Permission::Read, Permission::Write])]);
    let token = mint(&node.config.auth, &user, &grants, TTL, None).map_err(|error| internal(&error))?;
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    Ok((headers, Json(json!({ "token": token }))).into_response())
}

/// Whether a `Host` is this machine by a name that nobody else can give it. Any other could be that of a foreign page
/// whose name was made to point here, so that the browser takes the two for one origin.
fn names_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
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

    #[test]
    fn only_names_that_are_surely_this_machine_get_a_token() {
        let check = |host: &'static str| names_this_machine(&HeaderValue::from_static(host));
        for good in [
            "localhost",
            "localhost:8080",
            "LocalHost:1",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1:8080",
            "127.0.0.1.evil.example",
            "[::2]:1",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }
}
