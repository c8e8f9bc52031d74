//! Middleware for all requests.

pub(super) mod origin;
pub(super) mod request_id;
