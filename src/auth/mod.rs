//! Authentication and authorization of clients: tokens, the keys that verify them, grants and revocations.

mod jwk;

pub(crate) mod grants;
pub(crate) mod keys;
mod lookups;
pub(crate) mod revocation;
pub(crate) mod token;

pub use grants::{Grants, Permission, RoomGrants};
pub(crate) use keys::AuthError;
pub(crate) use revocation::{Revocation, Revocations};
pub(crate) use token::{Claims, LEEWAY, RawClaims, Verifier, mint};

#[cfg(test)]
mod tests;
