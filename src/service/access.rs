//! Access to the node: verification of tokens, and their revocation on all nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::auth::{Claims, LEEWAY, Revocation, Revocations, Verifier};
use crate::connections::Registry;
use crate::log::Unavailable;
use crate::protocol::{ErrorCode, Failure, UserId};
use crate::redis::{NO_REVOCATION, Store};
use crate::util::time::now_s;

pub struct Access {
    verifier: Arc<Verifier>,
    store: Arc<Store>,
    registry: Arc<Registry>,
    revocations: RwLock<Revocations>,
    /// The position in Redis's list of revocations up to which they are applied.
    applied: Mutex<String>,
    /// The retention of revocations: at least the lifetime of the longest-lived token.
    revocation_ttl: Duration,
    /// The greatest observed lead of the token issuer's clock, in seconds.
    issuer_ahead: AtomicU64,
}

#[derive(Debug)]
pub enum Revoked {
    Token {
        jti: String,
        /// The time at which the token expires, in Unix seconds, if known.
        expires: Option<u64>,
    },
    User {
        user: UserId,
        /// Tokens issued before this time are revoked, in Unix seconds; `None` for now.
        before: Option<u64>,
    },
}

impl Access {
    pub fn new(
        verifier: Arc<Verifier>,
        store: Arc<Store>,
        registry: Arc<Registry>,
        revocation_ttl: Duration,
    ) -> Self {
        Self {
            verifier,
            store,
            registry,
            revocations: RwLock::default(),
            applied: Mutex::new(NO_REVOCATION.to_owned()),
            revocation_ttl,
            issuer_ahead: AtomicU64::new(0),
        }
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired` or `token_revoked`.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Claims>, Failure> {
        let claims = self.verifier.verify(token).await?;
        if let Some(issued) = claims.issued {
            self.issuer_ahead.fetch_max(issued.saturating_sub(now_s()).min(LEEWAY), Ordering::Relaxed);
        }
        self.not_revoked(&claims)?;
        Ok(Arc::new(claims))
    }

    /// Checks that a token was not revoked. Call it again after a connection was given its claims: a
    /// revocation in between did not find the connection.
    ///
    /// # Errors
    /// `token_revoked`.
    pub fn not_revoked(&self, claims: &Claims) -> Result<(), Failure> {
        if self.revocations.read().is_revoked(claims) {
            return Err(Failure::new(ErrorCode::TokenRevoked, "the token was revoked"));
        }
        Ok(())
    }

    /// Revokes a token, or a user's tokens, on all nodes, and closes the connections that use them.
    ///
    /// # Errors
    /// `forbidden`, or `unavailable` if Redis does not store it.
    pub async fn revoke(&self, caller: &Claims, revoked: Revoked) -> Result<(), Failure> {
        caller.require_manage_all()?;
        let until = now_s() + self.revocation_ttl.as_secs();
        let revocation = match revoked {
            Revoked::Token { jti, expires } => {
                // As long as nodes with a slow clock may accept the token.
                let over = expires.map_or(u64::MAX, |expires| expires.saturating_add(2 * LEEWAY));
                Revocation::Token { jti, until: until.min(over) }
            }
            Revoked::User { user, before } => {
                Revocation::User { user, before: before.unwrap_or(self.not_issued_yet()), until }
            }
        };
        let fields = revocation.to_fields().map(|(name, value)| (name.to_owned(), value));
        self.store.revoke(fields.to_vec(), self.revocation_ttl).await?;
        self.apply([revocation]);
        Ok(())
    }

    /// Returns the first `iat` of tokens that are not issued yet: the next second, plus the observed lead of
    /// the issuer's clock, up to [`LEEWAY`].
    fn not_issued_yet(&self) -> u64 {
        now_s() + 1 + self.issuer_ahead.load(Ordering::Relaxed)
    }

    fn apply(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let mut known = self.revocations.write();
        revocations.into_iter().for_each(|revocation| known.insert(revocation));
        let known = parking_lot::RwLockWriteGuard::downgrade(known);
        self.registry.close_revoked(&known);
    }

    /// Applies the new revocations of all nodes, and forgets expired ones. One caller at a time.
    pub async fn read_revocations(&self) -> Result<(), Unavailable> {
        loop {
            let applied = self.applied.lock().clone();
            let Some((records, reached)) = self.store.revocations_after(&applied).await? else {
                tracing::info!(
                    "Redis does not have the last revocation that was read; reading all of them again"
                );
                NO_REVOCATION.clone_into(&mut self.applied.lock());
                continue;
            };
            let is_last = records.is_empty();
            self.apply(records.iter().filter_map(|record| {
                let get = |name: &str| {
                    record.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
                };
                Revocation::from_fields(get).inspect_err(|error| tracing::warn!(%error)).ok()
            }));
            *self.applied.lock() = reached;
            if is_last {
                break;
            }
        }
        if self.revocations.read().is_due(now_s()) {
            self.revocations.write().expire(now_s());
        }
        Ok(())
    }
}
