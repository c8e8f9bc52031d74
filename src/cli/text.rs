//! Text for people, wrapped between words to the width of the terminal.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSeparator, WordSplitter};

/// Width of a terminal that does not tell its own, in columns.
const USUAL: usize = 80;

/// The narrowest and the widest text, in columns, whatever the terminal's width.
const NARROWEST: usize = 40;
const WIDEST: usize = 100;

/// Returns the width of text for this output, in columns; `None` if it is no terminal, where text is not
/// wrapped.
pub(super) fn width(output: &(impl IsTerminal + AsFd)) -> Option<usize> {
    output.is_terminal().then(|| {
        let width = terminal_size_of(output).map_or(USUAL, |(Width(columns), _)| columns.into());
        width.clamp(NARROWEST, WIDEST)
    })
}

/// Wraps a text that begins with `first`. Its further lines are indented by the width of that. Words that are
/// too long, such as addresses, stay whole.
pub(super) fn wrap(first: &str, text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{first}{text}") };
    let indent = " ".repeat(textwrap::core::display_width(first));
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(&indent)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, options)
}

/// Shortens a text to this many characters, with an ellipsis in place of what is cut off.
pub(super) fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words_and_go_on_below_the_first_word() {
        let text = "cannot reach http://127.0.0.1:8080: is the server running? See roomlog-serve(1).";
        let wrapped = wrap("roomlog: ", text, Some(40));
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!(
            lines,
            [
                "roomlog: cannot reach",
                "         http://127.0.0.1:8080: is the",
                "         server running? See",
                "         roomlog-serve(1).",
            ]
        );
        assert_eq!(wrap("roomlog: ", text, None), format!("roomlog: {text}"));
    }

    #[test]
    fn colours_take_no_space_and_long_words_stay_whole() {
        let wrapped =
            wrap("\x1b[31mdanger\x1b[0m  ", "a https://rooms.example.com/with/a/long/path", Some(20));
        assert_eq!(wrapped, "\x1b[31mdanger\x1b[0m  a\n        https://rooms.example.com/with/a/long/path");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!([cut("room", 4), cut("rooms", 4)], ["room", "roo…"]);
    }
}
