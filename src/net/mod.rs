//! Client sockets, below HTTP and WebSocket: admission, TLS, and the server's certificate.

pub(crate) mod admission;
pub(crate) mod certificates;
pub(crate) mod stream;
pub(crate) mod tls;
