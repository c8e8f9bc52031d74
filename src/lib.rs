//! Roomlog: durable messaging for chat, notification and collaboration servers. A room is a log.

pub mod auth;
pub mod config;
pub mod hub;
pub mod log;
pub mod protocol;
pub mod redis;
pub mod telemetry;
pub mod time;
