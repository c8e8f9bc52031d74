//! `roomlog top`: the key figures of one or more servers, live in a terminal.

mod figures;
mod samples;
mod view;
mod watch;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};

use self::view::{draw, text};
use self::watch::Watch;
use super::Failed;
use super::output::Output;
use super::remote::run;

const APART: Duration = Duration::from_secs(1);

/// Shows whether messages get through, how fast, and what goes wrong, for one or more servers. `q` quits.
/// Where standard output is no terminal, prints one snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog top
  roomlog top http://a:8080 http://b:8080")]
pub(super) struct Top {
    /// Addresses of the servers, or of their listeners for metrics
    #[arg(env = "ROOMLOG_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
    /// Time between readings
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
}

impl Top {
    pub(super) fn run(self) -> Result<(), Failed> {
        for url in &self.urls {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                let how = "write it as an argument, or in ROOMLOG_URL, as";
                return Err(format!("`{url}` is no address of a server; {how} http://{url}").into());
            }
        }
        let mut watch = Watch::new(&self.urls)?;
        if !std::io::stdout().is_terminal() {
            return run(snapshot(&mut watch));
        }
        let mut terminal = ratatui::init();
        let outcome = run(self.show(&mut watch, &mut terminal));
        ratatui::restore();
        outcome
    }

    async fn show(&self, watch: &mut Watch, terminal: &mut DefaultTerminal) -> Result<(), Failed> {
        loop {
            let overview = watch.read().await;
            let next = Instant::now() + self.interval;
            loop {
                terminal.draw(|frame| draw(frame, &overview))?;
                if !event::poll(next.saturating_duration_since(Instant::now()))? {
                    break;
                }
                if let Event::Key(key) = event::read()? {
                    let interrupted =
                        key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn snapshot(watch: &mut Watch) -> Result<(), Failed> {
    watch.read().await;
    tokio::time::sleep(APART).await;
    let overview = watch.read().await;
    Output::new(false).line(text(&overview).trim_end())?;
    if overview.ready() == 0 {
        return Err("no server is ready".into());
    }
    Ok(())
}
