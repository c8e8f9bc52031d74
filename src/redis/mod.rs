//! The only folder that knows Redis.

pub mod durability;
pub mod embedded;
