//! Sockets of clients, below HTTP and WebSocket: who gets a place, TLS, and the server's certificate.

pub mod admission;
pub mod certificates;
pub mod stream;
pub mod tls;
