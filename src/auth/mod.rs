//! Authentication and authorization of clients: tokens, the keys that verify them, grants and revocations.

mod jwk;

pub mod grants;
pub mod keys;
mod lookups;
pub mod revocation;
pub mod token;

pub use grants::{Grants, Permission, RoomGrants};
pub use keys::{AuthError, KeySet};
pub use revocation::{InvalidRevocation, Revocation, Revocations};
pub use token::{Claims, LEEWAY, Verifier, mint};

#[cfg(test)]
mod tests;
