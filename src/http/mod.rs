//! The HTTP interface: the listener, the routes and the middleware.

pub(crate) mod extract;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub(crate) mod listener;
mod middleware;
pub(crate) mod problem;
mod router;
mod routes;

use std::sync::Arc;

use axum::extract::FromRef;
pub(crate) use middleware::origin::Origins;
pub(crate) use router::{metrics_router, router};

use crate::background::health::Health;
use crate::config::AuthConfig;
use crate::service::Services;
use crate::session::Shared;

#[derive(Clone)]
pub struct App {
    pub shared: Arc<Shared>,
    pub health: Arc<Health>,
    pub(crate) origins: Arc<Origins>,
    pub metrics_apart: bool,
    /// The keys for tokens, if anyone who can reach this server gets one: in development.
    pub dev_tokens: Option<Arc<AuthConfig>>,
}

impl FromRef<App> for Arc<Services> {
    fn from_ref(app: &App) -> Self {
        app.shared.services.clone()
    }
}

impl FromRef<App> for Arc<Shared> {
    fn from_ref(app: &App) -> Self {
        app.shared.clone()
    }
}

impl FromRef<App> for Arc<Health> {
    fn from_ref(app: &App) -> Self {
        app.health.clone()
    }
}
