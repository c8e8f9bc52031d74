//! `[[rooms]]`: the retention of rooms, and the label under which they are counted. The first table whose
//! pattern matches a room's name applies.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::protocol::{Pattern, RoomName};

use super::values;

const MAX_LABELS: usize = 16;

/// The retention of the rooms of one pattern. A message is removed when it exceeds any of the three limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomPolicy {
    #[serde(rename = "match")]
    pub pattern: Pattern,
    /// `None`, written `0s`, for no limit.
    #[serde(with = "values::duration_or_zero")]
    pub max_age: Option<Duration>,
    /// `None`, written 0, for no limit.
    #[serde(with = "values::count_or_zero")]
    pub max_length: Option<u64>,
    /// In bytes as stored; `None`, written 0, for no limit.
    #[serde(with = "values::bytes_or_zero")]
    pub max_bytes: Option<u64>,
    #[serde(deserialize_with = "label")]
    pub label: String,
    pub keep_unacked: bool,
}

/// All room policies in order. The last one matches every room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<RoomPolicy>", into = "Vec<RoomPolicy>")]
pub struct RoomPolicies {
    listed: Vec<RoomPolicy>,
    rest: RoomPolicy,
}

impl RoomPolicies {
    pub fn of(&self, room: &RoomName) -> &RoomPolicy {
        self.listed.iter().find(|policy| policy.pattern.matches(room)).unwrap_or(&self.rest)
    }

    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for policy in self.iter() {
            if !labels.contains(&policy.label.as_str()) {
                labels.push(&policy.label);
            }
        }
        labels
    }

    pub fn iter(&self) -> impl Iterator<Item = &RoomPolicy> {
        self.listed.iter().chain([&self.rest])
    }
}

impl TryFrom<Vec<RoomPolicy>> for RoomPolicies {
    type Error = &'static str;

    fn try_from(mut listed: Vec<RoomPolicy>) -> Result<Self, Self::Error> {
        match listed.pop() {
            Some(rest) if rest.pattern.is_any() => {
                let policies = Self { listed, rest };
                match policies.labels().len() {
                    0..=MAX_LABELS => Ok(policies),
                    _ => Err("there are more than 16 labels; each multiplies the metrics, so use fewer"),
                }
            }
            _ => Err("the last [[rooms]] table must be for `*`"),
        }
    }
}

impl From<RoomPolicies> for Vec<RoomPolicy> {
    fn from(policies: RoomPolicies) -> Self {
        let RoomPolicies { mut listed, rest } = policies;
        listed.push(rest);
        listed
    }
}

fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    values::ruled(deserializer, |text| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(text.into())
        } else {
            Err("must be 1 to 32 of a-z 0-9 _ -".into())
        }
    })
}
