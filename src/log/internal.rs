//! The purposes of internal rooms, which nodes keep for themselves and clients cannot name.

/// Rooms for a node's own probes. Their messages are not counted, traced, or kept for long.
pub(crate) const PROBES: &str = "canary";
