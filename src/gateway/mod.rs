//! The edge: the listener, and the connections that stay open (WebSocket, Server-Sent Events).

pub mod admission;
mod backlog;
pub mod certificates;
mod connection;
pub mod events;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod inbox;
pub mod listener;
pub mod origin;
pub mod page;
mod socket;
mod stream;
mod tls;
pub mod websocket;
