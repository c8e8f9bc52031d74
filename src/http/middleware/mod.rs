//! Middleware for all requests.

pub mod origin;
pub mod request_id;
