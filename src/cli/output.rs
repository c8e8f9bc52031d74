//! Output: text for people on a terminal, JSON lines elsewhere.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::text::{width, wrap};
use super::times::Times;
use roomlog_client::{Gap, GapReason, Message};

#[derive(Debug)]
pub(super) struct Output {
    json: bool,
    style: Style,
    times: Times,
    /// The day of the last message, as printed.
    day: String,
}

impl Output {
    /// Chooses JSON lines if requested, or if standard output is no terminal.
    pub(super) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json: json || !terminal,
            style: Style::of(terminal),
            times: Times::default(),
            day: String::new(),
        }
    }

    /// Prints times for people in this zone.
    pub(super) fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    pub(super) fn is_for_people(&self) -> bool {
        !self.json
    }

    pub(super) fn style(&self) -> Style {
        self.style
    }

    pub(super) fn line(&self, line: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }

    pub(super) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    pub(super) fn message(&mut self, message: &Message) -> io::Result<()> {
        if self.json {
            return self.json(message);
        }
        let day = self.times.day(message.id.ms);
        let Style { dim, plain, .. } = self.style;
        if day != self.day {
            self.line(&format!("{dim}{day}{plain}"))?;
            self.day = day;
        }
        self.line(&for_people(message, &self.times.clock(message.id.ms), self.style))
    }

    /// Prints a gap. For people it goes to standard error, so that it is never taken for a message.
    pub(super) fn gap(&self, gap: &Gap) -> io::Result<()> {
        if self.json {
            let Gap { after, next, reason } = gap;
            return self.json(&json!({ "op": "gap", "after": after, "next": next, "reason": reason }));
        }
        let Gap { after, next, reason } = gap;
        note(&match reason {
            GapReason::Trimmed => {
                let few = next.seq.checked_sub(after.seq + 1).filter(|lost| *lost > 0);
                let lost = few.map_or("messages are".to_owned(), |lost| match lost {
                    1 => "1 message is".to_owned(),
                    lost => format!("{lost} messages are"),
                });
                format!("{lost} missing after {after}: too old, or deleted")
            }
            GapReason::Rewound => {
                format!(
                    "messages after {after} may be missing: Redis came back without them; delivery continues at {next}"
                )
            }
        })
    }
}

/// Prints a notice on standard error, apart from the results.
pub(super) fn note(words: &str) -> io::Result<()> {
    let Style { dim, plain, .. } = Style::of(io::stderr().is_terminal());
    writeln!(io::stderr(), "{dim}{}{plain}", wrap("-- ", words, width(&io::stderr())))
}

/// Prints a hint on standard error for a person at a terminal. Programs do not get it.
pub(super) fn hint(words: &str) -> io::Result<()> {
    if io::stderr().is_terminal() { note(words) } else { Ok(()) }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    pub bold: &'static str,
    pub dim: &'static str,
    pub red: &'static str,
    pub yellow: &'static str,
    pub green: &'static str,
    /// Colours of names. Each name always gets the same.
    names: [&'static str; 6],
    pub plain: &'static str,
}

impl Style {
    /// Returns colours on a terminal, unless `NO_COLOR` is set.
    pub(super) fn of(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if !terminal || unwanted || dumb {
            return Self::default();
        }
        Self {
            bold: "\x1b[1m",
            dim: "\x1b[2m",
            red: "\x1b[31m",
            yellow: "\x1b[33m",
            green: "\x1b[32m",
            names: ["\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[96m"],
            plain: "\x1b[0m",
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.plain.is_empty()
    }

    fn name(&self, name: &str) -> &'static str {
        let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.names[sum % self.names.len()]
    }
}

/// Formats `12:00:05  ann       hello`, with the type if it is not the usual one.
fn for_people(message: &Message, time: &str, style: Style) -> String {
    let Style { dim, plain, .. } = style;
    let colour = style.name(&message.from);
    let from = printable(&message.from);
    let kind = match message.kind.as_str() {
        "message" => String::new(),
        kind => format!("{dim}[{}]{plain} ", printable(kind)),
    };
    let data = match &message.data {
        Value::String(text) => printable(text).into_owned(),
        data => printable(&data.to_string()).into_owned(),
    };
    format!("{dim}{time}{plain}  {colour}{from:<8}{plain}  {kind}{data}")
}

/// Escapes characters that a terminal would interpret: control characters, and those that change the
/// direction of writing.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return text.into();
    }
    text.chars()
        .fold(String::with_capacity(text.len() + 8), |mut out, c| {
            if harmful(c) {
                let _ = write!(out, "{}", c.escape_default()); // Writing to a string cannot fail.
            } else {
                out.push(c);
            }
            out
        })
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::MessageId;

    fn message(kind: &str, data: Value) -> Message {
        Message {
            room: "chat".parse().unwrap(),
            id: MessageId::new(1_700_000_000_000, 1),
            key: uuid::Uuid::nil(),
            from: "ann".into(),
            kind: kind.into(),
            data,
        }
    }

    #[test]
    fn messages_for_people_are_compact_lines() {
        let shown = |kind, data| for_people(&message(kind, data), "22:13:20", Style::default());
        assert_eq!(shown("message", json!("hello")), "22:13:20  ann       hello");
        assert_eq!(shown("note", json!({ "a": [1, null] })), "22:13:20  ann       [note] {\"a\":[1,null]}");
        assert_eq!(
            shown("message", json!("a\u{1b}[31m\nb\u{202e}")),
            "22:13:20  ann       a\\u{1b}[31m\\nb\\u{202e}"
        );
    }
}
