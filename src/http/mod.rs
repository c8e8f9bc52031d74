//! The HTTP interface: the listener, the routes and the middleware.

pub mod extract;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod listener;
mod middleware;
pub mod problem;
mod router;
mod routes;

pub use router::{metrics_router, router};
