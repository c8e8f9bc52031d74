//! Errors of a configuration: the key, the origin of its value, and the rule or a correction.

use std::fmt;

use toml::Table;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Defaults,
    File(String),
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("built-in defaults"),
            Self::File(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// A rejected configuration. The message never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{origin}, line {line}: {problem}")]
    Syntax {
        origin: Origin,
        /// Counted from 1.
        line: usize,
        problem: String,
    },
    #[error("{origin}: unknown key `{key}`; {hint}")]
    UnknownKey { key: String, origin: Origin, hint: String },
    #[error("{origin}: `{key}`: {problem}")]
    BadValue { key: String, origin: Origin, problem: String },
}

impl ConfigError {
    /// Describes the syntax error of `source` by its line number only: the text of the line may be a secret.
    pub(super) fn syntax(origin: Origin, source: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| source.get(..span.start)).unwrap_or_default();
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        Self::Syntax { origin, line, problem: error.message().into() }
    }

    /// Describes an unknown key: `wanted` is not among the `valid` names below `parent` (empty, or with its
    /// dot).
    pub(super) fn unknown(origin: Origin, key: &str, wanted: &str, parent: &str, valid: &Table) -> Self {
        let nearest = valid
            .keys()
            .map(|candidate| (strsim::jaro_winkler(wanted, candidate), candidate))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.8)
            .map(|(_, candidate)| format!("did you mean `{parent}{candidate}`? "))
            .unwrap_or_default();
        let valid: Vec<_> = valid.keys().map(String::as_str).collect();
        let hint = format!("{nearest}valid here: {}", valid.join(", "));
        Self::UnknownKey { key: key.into(), origin, hint }
    }
}
