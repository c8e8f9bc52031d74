//! The form of a report of `roomlog doctor`: a title, facts, and findings with their fixes.

use crate::cli::output::Style;
use crate::cli::text::wrap;
use crate::redis::durability::{Finding, Severity};

/// Maximum length of a line of text, in columns.
const WIDTH: usize = 78;

/// Greatest difference of two clocks that is fine, in milliseconds: as much as tokens allow.
const SKEW: u64 = 5000;

/// A report for people.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) title: String,
    pub(super) facts: Vec<String>,
    pub(super) findings: &'a [Finding],
}

impl Section<'_> {
    pub(super) fn lines(&self, style: Style) -> Vec<String> {
        let Style { bold, dim, red, yellow, green, plain, .. } = style;
        let mut text = vec![format!("{bold}{}{plain}", self.title)];
        text.extend(self.facts.iter().map(|fact| format!("{dim}{}{plain}", wrap("  ", fact, Some(WIDTH)))));
        for Finding { severity, what, consequence, fix } in self.findings {
            let (colour, word) = match severity {
                Severity::Danger => (red, "danger "),
                Severity::Warning => (yellow, "warning"),
                Severity::Fine => (green, "fine   "),
            };
            text.push(String::new());
            text.push(wrap(
                &format!("{colour}{word}{plain}  "),
                &format!("{bold}{what}{plain}"),
                Some(WIDTH),
            ));
            text.extend((!consequence.is_empty()).then(|| wrap("         ", consequence, Some(WIDTH))));
            // On one line, so that it can be copied.
            text.extend((!fix.is_empty()).then(|| format!("         {green}fix:{plain} {fix}")));
        }
        text.push(String::new());
        text.iter().flat_map(|text| text.split('\n')).map(str::to_owned).collect()
    }
}

/// Compares a clock with that of this machine. It is ahead by this many milliseconds.
pub(super) fn clock(of: &str, ahead: i64) -> Finding {
    let difference = ahead.unsigned_abs();
    if difference <= SKEW {
        let what = format!("the clock of {of} agrees with that of this machine");
        return Finding::new(Severity::Fine, what, "", "");
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    Finding::new(
        Severity::Warning,
        format!("the clock of {of} is {} s {direction} that of this machine", difference / 1000),
        "the times of messages, retention by age and the expiry of tokens are off by that",
        "synchronise both clocks over NTP, such as with chrony",
    )
}
