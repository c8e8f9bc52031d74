//! Small helpers without knowledge of Roomlog: the clock, memory, TLS.

pub(crate) mod memory;
pub(crate) mod time;
pub(crate) mod tls;
