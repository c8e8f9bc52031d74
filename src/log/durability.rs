//! Durability: how safe a message must be before its publish is confirmed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Redis has executed it.
    Memory,
    /// A replica has it as well.
    Replica,
    /// It is on Redis's disk. Requires `appendfsync always`.
    #[default]
    Disk,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("durability is memory, replica or disk, and not {0:?}")]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        match text {
            "memory" => Ok(Self::Memory),
            "replica" => Ok(Self::Replica),
            "disk" => Ok(Self::Disk),
            _ => Err(UnknownDurability(text.to_owned())),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Replica => "replica",
            Self::Disk => "disk",
        })
    }
}
