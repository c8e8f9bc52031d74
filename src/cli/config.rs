//! `roomlog config`.

use std::io::Write;

use clap::Args;

use super::{ConfigArgs, Failed};
use crate::config::DEFAULTS;

/// Prints a configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog config > roomlog.toml
  roomlog config --effective --config /etc/roomlog.toml")]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print what is in force, from the file, the environment and the defaults, without secrets
    #[arg(long)]
    effective: bool,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failed> {
        let text =
            if self.effective { self.config.load(Vec::new())?.to_toml()? } else { DEFAULTS.to_owned() };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}
