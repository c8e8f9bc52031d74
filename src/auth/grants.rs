//! The grants of a token: permissions by room pattern. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::protocol::{Pattern, RoomName, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Subscribe, and read history.
    Read,
    /// Publish and signal.
    Write,
    /// Delete, revoke and list.
    Manage,
}

impl Permission {
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Manage];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
        }
    }
}

pub type RoomGrants = BTreeMap<Pattern, Vec<Permission>>;

/// The grants of a token. Cheap to clone.
///
/// Parsing skips anything that grants nothing: unknown permissions (a later version may have more), and
/// patterns that no room can match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Arc<[(Pattern, Vec<Permission>)]>);

impl Grants {
    /// Returns whether `user`, who holds these grants, has this permission in the room.
    ///
    /// An inbox, `@<user>`, can be read by its user without a grant, and by nobody else whatever they hold.
    /// Writing to it and managing it need grants, as for any room.
    pub fn allows(&self, room: &RoomName, user: &UserId, permission: Permission) -> bool {
        match room.inbox_of() {
            Some(owner) if permission == Permission::Read => owner == user.as_str(),
            _ => self.holds(permission).any(|pattern| pattern.matches(room)),
        }
    }

    pub fn manages_all(&self) -> bool {
        self.holds(Permission::Manage).any(Pattern::is_any)
    }

    fn holds(&self, permission: Permission) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(move |(_, held)| held.contains(&permission)).map(|(pattern, _)| pattern)
    }
}

impl fmt::Display for Grants {
    /// Writes `read, write on chat.*; read on news`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |(pattern, held): &(Pattern, Vec<Permission>)| {
            let held: Vec<&str> = held.iter().map(|permission| permission.as_str()).collect();
            format!("{} on {}", held.join(", "), pattern.as_str())
        };
        let all: Vec<String> = self.0.iter().filter(|(_, held)| !held.is_empty()).map(words).collect();
        if all.is_empty() { f.write_str("nothing") } else { f.write_str(&all.join("; ")) }
    }
}

impl From<RoomGrants> for Grants {
    fn from(rooms: RoomGrants) -> Self {
        Self(rooms.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let claim = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
        let known = |word: String| Permission::ALL.into_iter().find(|permission| permission.as_str() == word);
        let read = |(pattern, words): (String, Vec<String>)| {
            let pattern = pattern.parse().ok()?;
            Some((pattern, words.into_iter().filter_map(known).collect()))
        };
        Ok(Self(claim.into_iter().filter_map(read).collect()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grants(json: &str) -> Grants {
        serde_json::from_str(json).unwrap()
    }

    fn allows(grants: &Grants, room: &str, user: &str, permission: Permission) -> bool {
        grants.allows(&room.parse().unwrap(), &user.parse().unwrap(), permission)
    }

    #[test]
    fn a_permission_holds_for_the_rooms_of_its_pattern() {
        let grants = grants(r#"{"chat.*": ["read", "write"], "log": ["read"], "@bob": ["write"]}"#);
        assert!(allows(&grants, "chat.a", "ann", Permission::Write));
        assert!(allows(&grants, "log", "ann", Permission::Read));
        assert!(!allows(&grants, "log", "ann", Permission::Write));
        assert!(!allows(&grants, "chat.a", "ann", Permission::Manage));
        assert!(!allows(&grants, "other", "ann", Permission::Read));
        assert!(allows(&grants, "@bob", "ann", Permission::Write));
        assert!(!allows(&grants, "@bob", "ann", Permission::Read));
    }

    #[test]
    fn unknown_permissions_and_patterns_grant_nothing() {
        let grants = grants(r#"{"a": ["admin", "Read", "write"], "a b": ["read"], "": ["manage"]}"#);
        assert!(!allows(&grants, "a", "ann", Permission::Read));
        assert!(allows(&grants, "a", "ann", Permission::Write));
        assert_eq!(grants.0.len(), 1);
    }

    #[test]
    fn managing_all_needs_the_pattern_for_all() {
        assert!(grants(r#"{"*": ["manage"]}"#).manages_all());
        assert!(!grants(r#"{"*": ["read", "write"], "a*": ["manage"]}"#).manages_all());
        assert!(!Grants::default().manages_all());
    }

    fn any_grants() -> impl Strategy<Value = Grants> {
        let permissions = proptest::collection::vec(proptest::sample::select(&Permission::ALL[..]), 0..4);
        let patterns = "[ab@*]{1,4}".prop_map(|text| text.parse().unwrap());
        proptest::collection::btree_map(patterns, permissions, 0..4).prop_map(Grants::from)
    }

    proptest! {
        #[test]
        fn an_inbox_is_read_by_its_user_alone(grants in any_grants(), owner in "[ab]{1,3}", user in "[ab]{1,3}") {
            let inbox = format!("@{owner}");
            prop_assert_eq!(allows(&grants, &inbox, &user, Permission::Read), owner == user);
        }

        #[test]
        fn outside_of_inboxes_the_user_makes_no_difference(grants in any_grants(), room in "[ab]{1,3}", user in "[ab]{1,3}") {
            for permission in Permission::ALL {
                let granted = grants.0.iter().any(|(pattern, held)| {
                    held.contains(&permission) && pattern.matches(&room.parse().unwrap())
                });
                prop_assert_eq!(allows(&grants, &room, &user, permission), granted);
            }
        }
    }
}
