//! Roomlog: durable messaging for chat, notification and collaboration servers. A room is a log.

pub mod auth;
pub mod config;
pub mod protocol;
