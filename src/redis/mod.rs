//! The only folder that knows Redis.

pub mod embedded;
