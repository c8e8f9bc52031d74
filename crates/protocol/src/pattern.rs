//! Room patterns, in which `*` stands for any run of characters. The grants of tokens and the rooms of the
//! configuration are written with them.

use std::str::FromStr;
use std::sync::Arc;

use super::RoomName;
use super::ids::{InvalidId, text_of};

/// Maximum length of a pattern, in bytes.
pub const MAX_PATTERN: usize = 256;

/// A room pattern such as `chat.*`: the characters of room names, and `*` for any run of them, including the
/// empty one. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Returns the pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern is `*`, which matches every room.
    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|b| b == b'*')
    }

    /// Returns whether the pattern matches the whole name.
    pub fn matches(&self, room: &RoomName) -> bool {
        self.matches_text(room.as_str())
    }

    /// The part before the first `*` must begin the text, and the part after the last must end it. The parts
    /// in between must follow in order, each at its first occurrence. Taking the first occurrence never takes
    /// space from a later part, so there is no backtracking.
    fn matches_text(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return &*self.0 == text;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else {
            return false;
        };
        for part in middle.split('*') {
            match text.split_once(part) {
                Some((_, after)) => text = after,
                None => return false,
            }
        }
        true
    }
}

impl FromStr for Pattern {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=MAX_PATTERN).contains(&text.len());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@-*".contains(&b);
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId(
                "a room pattern is 1 to 256 of A-Z a-z 0-9 . _ : @ - and * for any run of characters, such as chat.*",
            ))
        }
    }
}

text_of!(Pattern);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of `*`, regardless of cost.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
            (Some((p, pattern)), Some((t, text))) => p == t && model(pattern, text),
            _ => false,
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches_text(text)
    }

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, text) in [
            ("*", "a"),
            ("chat.*", "chat.general"),
            ("chat.*", "chat."),
            ("*.log", "a.log"),
            ("a*b*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
            ("@*", "@ann"),
            ("room", "room"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("chat.*", "chat"), ("a*a", "a"), ("a*b*c", "acb"), ("room", "rooms"), ("*.log", "log")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_follow_the_rule() {
        for bad in ["", "a b", "a/b", "a?", "{a}", "ä", &"x".repeat(257)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_match_in_linear_time() {
        let pattern = "a*".repeat(127) + "b";
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), model(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
