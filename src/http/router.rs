//! The routes of the HTTP interface. The OpenAPI document is generated from them.

use axum::Router;
use axum::http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::middleware::{origin, request_id};
use super::problem::{Problem, ProblemBody};
use super::routes::{events, messages, operations, page, reads, rooms, signals, subscriptions, websocket};
use crate::protocol::{ErrorCode, Failure};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Roomlog",
        description = "Durable messaging: a room is a log. The WebSocket protocol is in docs/protocol.md.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "messages", description = "Publishing and reading"),
        (name = "live", description = "Connections that stay open"),
        (name = "rooms", description = "Rooms and their durable subscriptions"),
        (name = "operations", description = "For operators and their tools"),
    ),
    security(("bearer" = [])),
    components(schemas(ProblemBody)),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(websocket::upgrade))
        .routes(routes!(events::stream))
        .routes(routes!(messages::publish, messages::history))
        .routes(routes!(messages::delete))
        .routes(routes!(messages::publish_batch))
        .routes(routes!(rooms::list))
        .routes(routes!(rooms::describe, rooms::delete))
        .routes(routes!(subscriptions::list, subscriptions::take))
        .routes(routes!(subscriptions::delete))
        .routes(routes!(subscriptions::acknowledge))
        .routes(routes!(reads::read))
        .routes(routes!(reads::mine))
        .routes(routes!(signals::send))
        .routes(routes!(operations::revoke))
        .routes(routes!(operations::health))
        .routes(routes!(operations::ready))
        .routes(routes!(operations::openapi))
}

/// Returns the routes with `/metrics`, which is documented even if it has its own listener.
fn routes_and_metrics() -> OpenApiRouter<App> {
    routes().routes(routes!(operations::metrics))
}

pub(super) fn document() -> utoipa::openapi::OpenApi {
    routes_and_metrics().into_openapi()
}

pub(crate) fn router(app: App) -> Router {
    let (router, _) = if app.metrics_apart { routes() } else { routes_and_metrics() }.split_for_parts();
    router
        .merge(page::routes(app.dev_tokens.is_some()))
        .fallback(async || Problem(Failure::new(ErrorCode::NotFound, "no such route")))
        .method_not_allowed_fallback(async || {
            let failure = Failure::bad_request("this route does not support this method");
            Problem(failure).with_status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(axum::middleware::from_fn_with_state(app.clone(), origin::check))
        .layer(axum::middleware::from_fn(request_id::name))
        .with_state(app)
}

pub(crate) fn metrics_router(app: App) -> Router {
    let (router, _) = OpenApiRouter::new().routes(routes!(operations::metrics)).split_for_parts();
    router.with_state(app)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REQUESTS: [(&str, &str); 21] = [
        ("get", "/v1/ws"),
        ("post", "/v1/rooms/{room}/messages"),
        ("post", "/v1/messages"),
        ("get", "/v1/rooms/{room}/messages"),
        ("get", "/v1/rooms/{room}/events"),
        ("get", "/v1/rooms/{room}"),
        ("get", "/v1/rooms/{room}/subscriptions"),
        ("post", "/v1/rooms/{room}/subscriptions"),
        ("delete", "/v1/rooms/{room}/subscriptions/{user}/{name}"),
        ("post", "/v1/rooms/{room}/acks"),
        ("post", "/v1/rooms/{room}/signals"),
        ("delete", "/v1/rooms/{room}/messages/{id}"),
        ("delete", "/v1/rooms/{room}"),
        ("get", "/v1/rooms"),
        ("post", "/v1/rooms/{room}/read"),
        ("get", "/v1/me/rooms"),
        ("post", "/v1/revocations"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/openapi.json"),
    ];

    #[test]
    fn the_document_has_every_request_of_the_protocol_and_no_other() {
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut documented: Vec<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
            })
            .collect();
        documented.sort();
        let mut requests = REQUESTS.map(|(method, path)| (method.to_owned(), path.to_owned()));
        requests.sort();
        assert_eq!(documented, requests);
    }
}
