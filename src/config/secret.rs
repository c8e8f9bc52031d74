//! Values that must stay hidden: printing or serializing them shows `***`. Code that needs the text calls
//! `expose`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::values;

/// Minimum length of a secret for HS256, in bytes: the size of its hash.
pub(crate) const MIN_SECRET: usize = 32;

const MASK: &str = "***";

/// The shared secret that signs HS256 tokens. At least [`MIN_SECRET`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() < MIN_SECRET {
            return Err(format!(
                "must be at least {MIN_SECRET} bytes, and has {}; make one with `openssl rand -hex 32`",
                text.len()
            ));
        }
        Ok(Self(text.into()))
    }
}

/// A URL that may contain a password. `Display` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<Self, String> {
        match text.split_once("://") {
            Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(Self(text.into())),
            _ => Err(format!("must be a URL that begins with {}://", schemes.join(":// or "))),
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or((MASK, ""));
        // The last `@`, rather than that of a parsed authority: a password may contain any character.
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| (MASK, rest));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        write!(f, "{scheme}://{login}{}{place}", if login.is_empty() { "" } else { "@" })?;
        for (i, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown = if matches!(name, "node" | "sentinelServiceName") { value } else { MASK };
            write!(f, "{}{name}={shown}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

macro_rules! masked {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
masked!(Secret, SecretUrl);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        values::ruled(deserializer, str::parse)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (url, shown) in [
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("redis://ann:hunter2@host", "redis://***@host"),
            ("redis://:hunter/@?2@host", "redis://***@host"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            (
                "redis://h?sentinelServiceName=m&sentinelPassword=hunter2",
                "redis://h?sentinelServiceName=m&sentinelPassword=***",
            ),
        ] {
            let scheme = url.split_once("://").unwrap().0;
            let url = SecretUrl::parse(url, &[scheme]).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn a_short_secret_says_how_to_make_one() {
        let refusal = "hunter2".parse::<Secret>().unwrap_err();
        assert!(refusal.contains("openssl rand -hex 32") && !refusal.contains("hunter2"), "{refusal}");
        let secret = "s".repeat(32).parse::<Secret>().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }
}
