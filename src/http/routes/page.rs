//! The page at `/`: a chat, built in `demo/` and embedded in the binary. In development, it gets its tokens
//! here.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rust_embed::RustEmbed;
use serde::Deserialize;
use serde_json::json;

use crate::auth::{Permission, RoomGrants, mint};
use crate::http::App;
use crate::http::extract::Query;
use crate::http::middleware::origin::names_this_machine;
use crate::http::problem::Problem;
use crate::protocol::{ErrorCode, Failure, UserId};

const TTL: Duration = Duration::from_secs(12 * 3600);

/// Allows only the page's own files and this server, since published data must never be executed. Trusted
/// Types also keep the browser from parsing text as HTML; their one policy names the service worker. The icon
/// with the number of unread messages is a `data:` URL.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types service-worker";

/// The files without a hash in their names, which browsers ask for again and again by the same name.
const FIXED: [&str; 5] =
    ["worker.js", "manifest.webmanifest", "icon-192.png", "icon-512.png", "icon-maskable.png"];

/// The output of `make demo`: each file, with a gzip version next to it.
#[derive(RustEmbed)]
#[folder = "demo/dist"]
struct Built;

/// Returns the routes of the page. With `dev`, they also give a token to anyone who can reach this server.
pub(crate) fn routes(dev: bool) -> Router<App> {
    let page = Router::new()
        .route("/", get(async |headers: HeaderMap| file("index.html", "no-cache", &headers)))
        // The names contain a hash of the contents.
        .route(
            "/assets/{name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| {
                file(&format!("assets/{name}"), "public, max-age=31536000, immutable", &headers)
            }),
        );
    let page = FIXED.into_iter().fold(page, |page, name| {
        let answer = async move |headers: HeaderMap| file(name, "no-cache", &headers);
        page.route(&format!("/{name}"), get(answer))
    });
    if dev { page.route("/dev/token", get(dev_token)) } else { page }
}

fn file(path: &str, caching: &'static str, headers: &HeaderMap) -> Result<Response, Problem> {
    let kind = match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        Some((_, "png")) => "image/png",
        Some((_, "webmanifest")) => "application/manifest+json",
        _ => return Err(missing()),
    };
    let zipped = takes_gzip(headers).then(|| Built::get(&format!("{path}.gz"))).flatten();
    let encoding = zipped.is_some().then_some([(CONTENT_ENCODING, "gzip")]);
    let file = zipped.or_else(|| Built::get(path)).ok_or_else(missing)?;
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, caching),
        (VARY, "accept-encoding"),
    ];
    Ok((encoding, headers, file.data).into_response())
}

fn missing() -> Problem {
    Problem(Failure::new(ErrorCode::NotFound, "no such route"))
}

/// Returns whether the client accepts gzip, with a weight above zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

#[derive(Deserialize)]
struct TokenQuery {
    user: String,
}

async fn dev_token(
    State(app): State<App>,
    headers: HeaderMap,
    Query(TokenQuery { user }): Query<TokenQuery>,
) -> Result<Response, Problem> {
    if !headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(names_this_machine) {
        let message = "development tokens are issued only to pages of http://localhost and http://127.0.0.1";
        return Err(Failure::forbidden(message).into());
    }
    let keys = app.dev_tokens.as_ref().ok_or_else(missing)?;
    let user: UserId = user.parse()?;
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a development token cannot be created");
        Failure::new(ErrorCode::Internal, "the token cannot be made")
    };
    let all = "*".parse().map_err(|error| internal(&error))?;
    let grants = RoomGrants::from([(all, vec![Permission::Read, Permission::Write])]);
    let token = mint(keys, &user, &grants, TTL, None).map_err(|error| internal(&error))?;
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    Ok((headers, Json(json!({ "token": token }))).into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn gzip_is_served_only_to_clients_that_accept_it() {
        let check = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        for good in ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.8"] {
            assert!(check(good), "{good}");
        }
        for bad in ["", "br", "gzip;q=0", "identity, gzip; q=0.0"] {
            assert!(!check(bad), "{bad}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_embedded_page_was_built_from_the_current_sources() {
        let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let list = std::fs::read_to_string(demo.join("dist/sources.sha256")).unwrap();
        for line in list.lines() {
            let (known, file) = line.split_once("  ").unwrap();
            let bytes = std::fs::read(demo.join(file)).unwrap_or_default();
            let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, known, "{file} has changed, or is gone: run `make demo`, and commit demo/dist");
        }
        for folder in ["src", "public", "../clients/js/src"] {
            for name in files_in(&demo, folder) {
                let is_listed = list.contains(&format!("  {name}\n"));
                assert!(is_listed, "{name} is new: run `make demo`, and commit demo/dist");
            }
        }
    }

    /// Returns the files in a folder and those in it, as paths that begin with `folder`.
    fn files_in(demo: &std::path::Path, folder: &str) -> Vec<String> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(demo.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() { files.extend(files_in(demo, &name)) } else { files.push(name) }
        }
        files
    }

    #[test]
    fn only_hosts_that_are_surely_this_machine_get_a_token() {
        let check = names_this_machine;
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
