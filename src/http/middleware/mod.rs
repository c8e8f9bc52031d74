//! What all requests pass.

pub mod origin;
pub mod request_id;
