//! The `roomlog` command: its arguments, and the file that runs each subcommand.

mod config;
mod confirm;
mod delete;
mod dev;
mod doctor;
mod files;
mod history;
mod install;
mod output;
mod progress;
mod publish;
mod remote;
mod revoke;
mod rooms;
mod serve;
mod subscriptions;
mod tail;
mod text;
mod times;
mod token;
mod top;
mod tour;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::output::Style;
use self::text::{width, wrap};
use crate::config::{Config, ConfigError};

/// Durable messaging for chat, notification and collaboration servers: a room is a log.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Make a token with the configured secret
    Token(token::Token),
    /// Publish a message to a room, or each line of standard input
    Publish(publish::Publish),
    /// Follow a room: print its messages as they arrive
    ///
    /// Continues after restarts of the server, until Ctrl-C.
    Tail(tail::Follow),
    /// Print a room's messages, oldest first; the newest 100 by default
    History(history::History),
    /// List the rooms
    ///
    /// The token must grant `manage` on `*`.
    Rooms(rooms::Rooms),
    /// List the durable subscriptions of a room, or delete one
    ///
    /// Each with its lag (the number of messages that it has not acknowledged), whether a connection holds it
    /// now, and the time of the last message that it has acknowledged. The token must grant `read` or `manage`
    /// on the room.
    Subscriptions(subscriptions::Subscriptions),
    /// Delete a room, or one of its messages
    ///
    /// Deletes a room with its messages and durable subscriptions. Asks first. The token must grant `manage` on
    /// the room.
    Delete(delete::Delete),
    /// Revoke a token, or all tokens of a user
    ///
    /// On all nodes; connections that use them are closed. The token in use must grant `manage` on `*`.
    Revoke(revoke::Revoke),
    /// Show live whether messages get through, how fast, and what goes wrong
    Top(top::Top),
    /// Report risks to messages in Redis, and what keeps clients from using a server
    ///
    /// Examines the Redis that the server uses, or would use, and with --url or ROOMLOG_URL also a running
    /// server. Names the fix of each problem, and changes nothing. Exits with 1 if confirmed messages can be
    /// lost that the configured durability should keep, or if clients cannot use the server.
    Doctor(doctor::Doctor),
    /// Print the default configuration with what each key means, or the effective one
    Config(config::Show),
    /// Print the completions of a shell
    #[command(hide = true)]
    Completions(install::Completions),
    /// Print the manual page, or write those of all commands to a directory
    #[command(hide = true)]
    Man(install::Manual),
}

/// The source of the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "ROOMLOG_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The Redis to use: flags that take precedence over the configuration.
#[derive(Debug, Args)]
pub(crate) struct RedisArgs {
    /// The Redis to use (redis.url); without one, the server runs its own
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Directory for the data of the server's own Redis (embedded.data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl RedisArgs {
    pub(crate) fn overrides(&self) -> Vec<(String, toml::Value)> {
        let set = |key: &str, value: String| (key.to_owned(), toml::Value::String(value));
        let data_dir = self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        let url = self.redis_url.clone().map(|url| set("redis.url", url));
        url.into_iter().chain(data_dir.map(|dir| set("embedded.data_dir", dir))).collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

impl ConfigArgs {
    /// Reads all layers; `overrides` is the last.
    pub(crate) fn load(&self, overrides: Vec<(String, toml::Value)>) -> Result<Config, LoadError> {
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

pub fn run() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let outcome = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Token(token) => token.run(),
        Command::Publish(publish) => publish.run(),
        Command::Tail(tail) => tail.run(),
        Command::History(history) => history.run(),
        Command::Rooms(rooms) => rooms.run(),
        Command::Top(top) => top.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Subscriptions(subscriptions) => subscriptions.run(),
        Command::Delete(delete) => delete.run(),
        Command::Revoke(revoke) => revoke.run(),
        Command::Config(show) => show.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(manual) => manual.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output, such as `head`, has enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&wrap("roomlog: ", &error.to_string(), width(&io::stderr())));
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line. Where that is an error, or a request for help, prints it and returns the exit code.
fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        match width(&io::stderr()).filter(|_| error.use_stderr()) {
            Some(width) => {
                let text = error.render();
                let text =
                    if Style::of(true).is_plain() { text.to_string() } else { text.ansi().to_string() };
                complain(&wrap("", text.trim_end(), Some(width)));
            }
            None => {
                let _ = error.print(); // The output may have no reader.
            }
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Returns this program as it was started, such as `target/release/roomlog`, for commands to copy.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "roomlog".into())
}

pub(crate) type Failed = Box<dyn std::error::Error>;

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[allow(clippy::print_stderr)] // This is what standard error is for.
fn complain(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_command_has_help_with_examples_that_fits_into_eighty_columns() {
        for command in Cli::command().term_width(80).get_subcommands().cloned() {
            let name = command.get_name().to_owned();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains('\n'), "{name}: {about}");
            let help = command.term_width(80).render_long_help().to_string();
            assert!(help.contains("Examples:\n  roomlog "), "{name}: {help}");
            let long = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{name}");
        }
    }

    #[test]
    fn the_examples_of_the_help_are_valid() {
        for command in Cli::command().get_subcommands() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for example in
                examples.lines().filter_map(|line| line.split_once("roomlog ")).map(|(_, args)| args)
            {
                let args = example.split(['|', '>']).next().unwrap_or_default();
                // No argument of an example has a space inside quotes, apart from data.
                let args = args.replace("{\"text\": \"hello\"}", "1").replace("plain text", "text");
                let args = args.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
                let parsed = Cli::try_parse_from(["roomlog"].into_iter().chain(args));
                assert!(
                    parsed.is_ok(),
                    "{example}: {}",
                    parsed.err().map_or(String::new(), |e| e.to_string())
                );
            }
        }
    }
}
