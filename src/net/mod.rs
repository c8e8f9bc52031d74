//! Client sockets, below HTTP and WebSocket: admission, TLS, and the server's certificate.

pub mod admission;
pub mod certificates;
pub mod stream;
pub mod tls;
