//! The HTTP interface. [`router`] is its table of contents; the OpenAPI document is made from the same table.

pub mod extract;
mod messages;
mod operations;
pub mod problem;
mod rooms;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::gateway::{events, origin, page, websocket};
use crate::node::Node;
use crate::protocol::{ErrorCode, Failure};

/// A body may hold this many times the bytes of one message's data, as a WebSocket message may.
const MESSAGES_AT_ONCE: usize = 16;

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
    modifiers(&Bearer)
)]
struct Document;

/// Says that tokens are asked for.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Every route, and the document of them.
fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(websocket::upgrade))
        .routes(routes!(events::stream))
        .routes(routes!(messages::publish, messages::history))
        .routes(routes!(messages::delete))
        .routes(routes!(messages::publish_batch))
        .routes(routes!(rooms::list))
        .routes(routes!(rooms::describe, rooms::delete))
        .routes(routes!(rooms::subscriptions))
        .routes(routes!(rooms::delete_subscription))
        .routes(routes!(operations::revoke))
        .routes(routes!(operations::health))
        .routes(routes!(operations::ready))
}

/// The main listener's interface. With `dev`, whoever can reach it gets a token.
pub fn router(node: Arc<Node>, dev: bool) -> Router {
    let mut routes = routes();
    if node.config.server.metrics_listen.is_none() {
        routes = routes.routes(routes!(operations::metrics));
    }
    let (router, document) = routes.split_for_parts();
    let limit = node.config.limits.max_message.saturating_mul(MESSAGES_AT_ONCE);
    router
        .route("/openapi.json", get(|| async { Json(document) }))
        .merge(page::routes(dev))
        .fallback(|| async { problem::Problem(Failure::new(ErrorCode::NotFound, "there is nothing here")) })
        .layer(DefaultBodyLimit::max(limit))
        .layer(axum::middleware::from_fn_with_state(node.clone(), origin::check))
        .with_state(node)
}

/// The interface of a listener for metrics alone.
pub fn metrics_router(node: Arc<Node>) -> Router {
    let (router, _) = OpenApiRouter::new().routes(routes!(operations::metrics)).split_for_parts();
    router.with_state(node)
}
