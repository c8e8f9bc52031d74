//! Small helpers without knowledge of Roomlog: the clock, memory, TLS.

pub mod memory;
pub mod time;
pub mod tls;
