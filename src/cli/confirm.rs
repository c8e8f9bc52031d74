//! Questions before something is deleted for good.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failed;
use super::text::{width, wrap};

/// Asks whether to go on, unless `yes` is the answer already.
///
/// # Errors
/// If the answer is no, or if there is no terminal to ask on.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failed> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(
            "nothing was deleted: there is no terminal to ask on; add --yes to delete without a question"
                .into(),
        );
    }
    write!(io::stderr(), "{} ", wrap("", &format!("{question} [y/N]"), width(&io::stderr())))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was deleted".into()),
    }
}
