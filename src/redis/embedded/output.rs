//! Forwards Redis's log lines to this program's log.

/// Messages that Redis logs as warnings although they are routine.
const ROUTINE: [&str; 8] = [
    "oO0OoO0OoO0Oo",
    "Redis version=",
    "Valkey version=",
    "Configuration loaded",
    "Server initialized",
    "User requested shutdown",
    "Redis is now ready to exit",
    "Valkey is now ready to exit",
];

pub(super) fn hand_on(line: &str) {
    match parse(line) {
        (true, text) => tracing::warn!(target: "roomlog::redis::server", "{text}"),
        (false, text) => tracing::debug!(target: "roomlog::redis::server", "{text}"),
    }
}

/// Returns true for a warning, and the text without process id and time: `7865:M 22 Nov 2026 06:14:51.945 #
/// Server initialized`.
fn parse(line: &str) -> (bool, &str) {
    let mut words = line.splitn(7, ' ');
    match (words.nth(5), words.next()) {
        (Some("#"), Some(text)) => (!ROUTINE.iter().any(|start| text.starts_with(start)), text),
        (Some("*" | "-" | "."), Some(text)) => (false, text),
        _ => (false, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_other_lines_are_distinguished() {
        for (line, expected) in [
            (
                "1:M 22 Nov 2026 06:14:51.945 * Running mode=standalone, port=0.",
                (false, "Running mode=standalone, port=0."),
            ),
            ("1:M 22 Nov 2026 06:14:51.945 # WARNING Memory overcommit", (true, "WARNING Memory overcommit")),
            ("1:C 22 Nov 2026 06:14:51.944 # Configuration loaded", (false, "Configuration loaded")),
            (
                "1:signal-handler (1700000000) Received SIGTERM",
                (false, "1:signal-handler (1700000000) Received SIGTERM"),
            ),
            (
                "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***",
                (false, "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"),
            ),
            ("", (false, "")),
        ] {
            assert_eq!(parse(line), expected);
        }
    }
}
