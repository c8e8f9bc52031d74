//! Who a client is and what it may do: tokens, the keys that verify them, grants and revocations.

pub mod grants;

pub use grants::{Grants, Permission, RoomGrants};
