//! Tokens revoked before their expiry. Pure: every node keeps this set, and reads the entries from a Redis
//! stream with the same fields.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::protocol::UserId;

use super::Claims;

/// A revocation of one token, or of all older tokens of a user. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    Token {
        jti: String,
        /// The time when the revocation may be removed.
        until: u64,
    },
    /// The user's tokens with an `iat` below `before`, and those without `iat`.
    ///
    /// `iat` counts whole seconds. To revoke every token issued up to now, set `before` to now + 1, plus any
    /// lead of the issuer's clock. Tokens that the user gets in the rest of this second are then revoked too.
    User { user: UserId, before: u64, until: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a revocation: field `{0}` is missing or malformed")]
pub struct InvalidRevocation(&'static str);

impl Revocation {
    /// Returns the fields of its stream entry, all text: `kind`, `subject`, `before` (0 for a token) and
    /// `until`.
    pub fn to_fields(&self) -> [(&'static str, String); 4] {
        let (kind, subject, before, until) = match self {
            Self::Token { jti, until } => ("token", jti.as_str(), 0, until),
            Self::User { user, before, until } => ("user", user.as_str(), *before, until),
        };
        [
            ("kind", kind.into()),
            ("subject", subject.into()),
            ("before", before.to_string()),
            ("until", until.to_string()),
        ]
    }

    pub fn from_fields<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidRevocation> {
        let text = |name| get(name).ok_or(InvalidRevocation(name));
        let number = |name| text(name)?.parse::<u64>().map_err(|_| InvalidRevocation(name));
        let subject = text("subject")?;
        let until = number("until")?;
        match text("kind")? {
            "token" => Ok(Self::Token { jti: subject.into(), until }),
            "user" => {
                let user = subject.parse().map_err(|_| InvalidRevocation("subject"))?;
                Ok(Self::User { user, before: number("before")?, until })
            }
            _ => Err(InvalidRevocation("kind")),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Token(Arc<str>),
    User(UserId),
}

#[derive(Debug, Clone, Default)]
pub struct Revocations {
    tokens: HashMap<Arc<str>, u64>,
    /// User → (before, until), each the maximum of the user's revocations.
    users: HashMap<UserId, (u64, u64)>,
    /// Removal times. Earlier times of a subject that was revoked again are skipped.
    due: BinaryHeap<Reverse<(u64, Subject)>>,
}

impl Revocations {
    /// Adds a revocation. Order and repetition make no difference.
    pub fn insert(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Token { jti, until } => {
                let jti: Arc<str> = jti.into();
                let known = self.tokens.entry(jti.clone()).or_default();
                if until > *known {
                    *known = until;
                    self.due.push(Reverse((until, Subject::Token(jti))));
                }
            }
            Revocation::User { user, before, until } => {
                let known = self.users.entry(user.clone()).or_default();
                known.0 = before.max(known.0);
                if until > known.1 {
                    known.1 = until;
                    self.due.push(Reverse((until, Subject::User(user))));
                }
            }
        }
    }

    pub fn is_revoked(&self, claims: &Claims) -> bool {
        let by_token = claims.jti.as_ref().is_some_and(|jti| self.tokens.contains_key(jti.as_str()));
        let by_user = self
            .users
            .get(&claims.user)
            .is_some_and(|(before, _)| claims.issued.is_none_or(|issued| issued < *before));
        by_token || by_user
    }

    /// Removes revocations with an `until` of at most `now`, in Unix seconds.
    pub fn expire(&mut self, now: u64) {
        while self.is_due(now) {
            match self.due.pop() {
                Some(Reverse((_, Subject::Token(jti)))) => {
                    if self.tokens.get(&jti).is_some_and(|until| *until <= now) {
                        self.tokens.remove(&jti);
                    }
                }
                Some(Reverse((_, Subject::User(user)))) => {
                    if self.users.get(&user).is_some_and(|(_, until)| *until <= now) {
                        self.users.remove(&user);
                    }
                }
                None => return,
            }
        }
    }

    pub fn is_due(&self, now: u64) -> bool {
        self.due.peek().is_some_and(|Reverse((until, _))| *until <= now)
    }

    pub fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::Grants;

    fn claims(user: &str, issued: Option<u64>, jti: Option<&str>) -> Claims {
        Claims {
            user: user.parse().unwrap(),
            expires: 1000,
            issued,
            jti: jti.map(Into::into),
            grants: Grants::default(),
        }
    }

    fn user(user: &str, before: u64, until: u64) -> Revocation {
        Revocation::User { user: user.parse().unwrap(), before, until }
    }

    fn token(jti: &str, until: u64) -> Revocation {
        Revocation::Token { jti: jti.into(), until }
    }

    #[test]
    fn a_token_is_revoked_by_its_jti() {
        let mut revocations = Revocations::default();
        revocations.insert(token("x", 500));
        assert!(revocations.is_revoked(&claims("ann", Some(1), Some("x"))));
        assert!(!revocations.is_revoked(&claims("ann", Some(1), Some("y"))));
        assert!(!revocations.is_revoked(&claims("ann", Some(1), None)));
    }

    #[test]
    fn a_user_is_revoked_with_all_tokens_issued_before() {
        let mut revocations = Revocations::default();
        revocations.insert(user("ann", 100, 500));
        revocations.insert(user("ann", 50, 400));
        assert!(revocations.is_revoked(&claims("ann", Some(99), None)));
        assert!(!revocations.is_revoked(&claims("ann", Some(100), None)));
        assert!(revocations.is_revoked(&claims("ann", None, Some("y"))));
        assert!(!revocations.is_revoked(&claims("bob", Some(1), None)));
    }

    #[test]
    fn revocations_are_removed_once_they_expire() {
        let mut revocations = Revocations::default();
        for revocation in [token("x", 500), token("x", 300), user("ann", 100, 500), user("ann", 101, 300)] {
            revocations.insert(revocation);
        }
        assert!(!revocations.is_due(299));
        revocations.expire(499);
        assert_eq!(revocations.len(), 2);
        revocations.expire(500);
        assert!(revocations.is_empty() && revocations.due.is_empty());
    }

    #[test]
    fn fields_read_back_what_they_write() {
        for revocation in [token("x", 500), user("ann", 100, 500)] {
            let fields = revocation.to_fields();
            let get =
                |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
            assert_eq!(Revocation::from_fields(get), Ok(revocation.clone()));
            for (missing, _) in &fields {
                let result = Revocation::from_fields(|name| get(name).filter(|_| name != *missing));
                let needed = *missing != "before" || matches!(revocation, Revocation::User { .. });
                assert_eq!(result.is_err(), needed, "{missing}");
            }
        }
        let odd = |name: &str| Some(if name == "kind" { "room" } else { "1" });
        assert_eq!(Revocation::from_fields(odd), Err(InvalidRevocation("kind")));
    }
}
