//! Request handlers, one file for each resource.

pub(super) mod events;
pub(super) mod messages;
pub(super) mod operations;
pub(super) mod page;
pub(super) mod reads;
pub(super) mod rooms;
pub(super) mod signals;
pub(super) mod subscriptions;
pub(super) mod websocket;
