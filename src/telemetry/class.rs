//! Room classes: the labels of `[[rooms]]`. Metrics are counted by class, without a series for each room.

use crate::config::RoomPolicies;
use crate::protocol::{Pattern, RoomName};

/// A room's class, as an index. The last one is for the nodes' own probes, which are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    /// The class of the first `[[rooms]]` table, which always exists.
    pub const FIRST: Self = Self(0);

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[derive(Debug)]
pub(super) struct Classes {
    patterns: Vec<(Pattern, Class)>,
    rest: Class,
    probes: Class,
    labels: Vec<String>,
}

impl Classes {
    pub(super) fn new(policies: &RoomPolicies) -> Self {
        let labels: Vec<String> = policies.labels().into_iter().map(str::to_owned).collect();
        let class =
            |label: &str| Class(labels.iter().position(|known| known == label).unwrap_or_default() as u8);
        let mut patterns: Vec<(Pattern, Class)> =
            policies.iter().map(|policy| (policy.pattern.clone(), class(&policy.label))).collect();
        let rest = patterns.pop().map_or(Class::FIRST, |(_, rest)| rest);
        Self { patterns, rest, probes: Class(labels.len() as u8), labels }
    }

    pub(super) fn of(&self, room: &RoomName) -> Class {
        if room.is_internal() {
            return self.probes;
        }
        let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(room));
        found.map_or(self.rest, |(_, class)| *class)
    }

    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_first_table_that_matches_names_the_class() {
        let tables = "[[rooms]]\nmatch = \"chat.vip.*\"\nlabel = \"vip\"\n[[rooms]]\nmatch = \"@*\"\n\
                      [[rooms]]\nmatch = \"chat.*\"\nlabel = \"chat\"\n";
        let file = Some((std::path::Path::new("test"), tables));
        let config = Config::load(file, std::iter::empty(), Vec::new()).unwrap();
        let classes = Classes::new(&config.rooms);
        assert_eq!(classes.labels(), ["vip", "other", "chat"]);
        for (room, label) in [("chat.vip.a", "vip"), ("chat.a", "chat"), ("@ann", "other"), ("x", "other")] {
            assert_eq!(classes.labels()[classes.of(&room.parse().unwrap()).index()], label, "{room}");
        }
        assert_eq!(classes.of(&RoomName::internal("canary", "abc")).index(), 3);
    }
}
