//! Roomlog: durable messaging for chat, notification and collaboration servers. A room is a log.

pub mod auth;
pub mod canary;
pub mod cli;
pub mod config;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod history;
pub mod http;
pub mod hub;
pub mod janitor;
pub mod log;
mod memory;
pub mod net;
pub mod node;
pub mod redis;
pub mod session;
#[cfg(test)]
mod simulation;
mod tasks;
pub mod telemetry;
pub mod time;
mod tls;
pub mod top;

use roomlog_protocol as protocol;
