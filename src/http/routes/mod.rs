//! Request handlers, one file for each resource.

pub mod events;
pub mod messages;
pub mod operations;
pub mod page;
pub mod rooms;
pub mod signals;
pub mod subscriptions;
pub mod websocket;
