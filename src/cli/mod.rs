//! The `roomlog` command: what it takes, and which file does it.

mod config;
mod serve;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Durable messaging for chat, notification and collaboration servers: a room is a log.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Make a token with the configured secret
    Token(token::Token),
    /// Print the default configuration with what each key means, or the one in force
    Config(config::Show),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "ROOMLOG_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// What it says cannot be used.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

impl ConfigArgs {
    /// Reads all layers, of which `overrides` are the last.
    ///
    /// # Errors
    /// A file that cannot be read, unknown keys, bad values.
    pub fn load(&self, overrides: Vec<(String, toml::Value)>) -> Result<Config, LoadError> {
        let file = match &self.config {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| LoadError::Unreadable(path.clone(), error))?;
                Some((path.clone(), text))
            }
        };
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        Ok(Config::load(file, std::env::vars(), overrides)?)
    }
}

/// Runs the command of this process.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Token(token) => token.run(),
        Command::Config(show) => show.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, in words for people.
pub type Failed = Box<dyn std::error::Error>;

#[allow(clippy::print_stderr)] // This is what standard error is for.
fn complain(error: &dyn std::error::Error) {
    eprintln!("roomlog: {error}");
}
