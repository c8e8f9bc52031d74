//! `roomlog completions` and `roomlog man`: the files that an installation puts beside the program.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failed};

/// Prints the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog completions bash > ~/.local/share/bash-completion/completions/roomlog
  roomlog completions fish > ~/.config/fish/completions/roomlog.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the manual page of `roomlog`, or writes the pages of all commands to a directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog man | man -l -
  roomlog man ~/.local/share/man/man1")]
pub(super) struct Manual {
    /// Directory for `roomlog.1`, `roomlog-serve.1` and so on; it is created if needed
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failed> {
        // In memory first: the library panics if the reader of the output goes away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "roomlog", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}

impl Manual {
    pub(super) fn run(self) -> Result<(), Failed> {
        let Some(dir) = self.dir else {
            return Ok(Man::new(command()).render(&mut io::stdout())?);
        };
        let unusable = |error| format!("cannot write manual pages to {}: {error}", dir.display());
        std::fs::create_dir_all(&dir).map_err(unusable)?;
        clap_mangen::generate_to(command(), &dir).map_err(unusable)?;
        Ok(())
    }
}

/// Returns the command without `help`, which would get a page for each command that it explains.
fn command() -> Command {
    Cli::command().disable_help_subcommand(true)
}
