//! `roomlog doctor`.

mod redis;
mod report;
mod server;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;

use self::redis::RedisReport;
use self::report::Section;
use self::server::ServerReport;
use super::output::Output;
use super::remote::run;
use super::{ConfigArgs, Failed, RedisArgs};
use crate::config::Config;
use crate::redis::acl;
use crate::redis::durability::Severity;
use crate::util::tls;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Reports risks to messages in the Redis that the server uses, or would use, and how to fix them. With --url
/// or ROOMLOG_URL, also what keeps clients from using that server. Changes nothing. Exits with 1 if something is
/// in danger: if confirmed messages can be lost that the configured durability should keep, or if clients
/// cannot use the server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog doctor
  roomlog doctor --redis-url redis://10.0.0.5:6379
  roomlog doctor --url https://rooms.example.com --token \"$TOKEN\"
  roomlog doctor --acl")]
pub(super) struct Doctor {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    redis: RedisArgs,
    /// A running server to look at too
    #[arg(long, env = "ROOMLOG_URL", value_name = "URL")]
    url: Option<String>,
    /// Token to check there
    #[arg(long, env = "ROOMLOG_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Only ask the server on this machine whether it is ready, for container health checks
    #[arg(long, conflicts_with_all = ["json", "acl"])]
    ready: bool,
    /// Print the ACL rule for a Redis user with exactly the rights that the server needs, with the configured
    /// prefix
    #[arg(long, value_name = "USER", num_args = 0..=1, default_missing_value = "roomlog", conflicts_with = "json")]
    acl: Option<String>,
    /// Print JSON lines (the default if standard output is no terminal)
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failed> {
        let config = self.config.load(self.redis.overrides())?;
        if self.ready {
            return run(ready(&config));
        }
        let output = Output::new(self.json);
        if let Some(user) = &self.acl {
            return Ok(output.line(&acl::rule(user, &config.redis.prefix))?);
        }
        run(self.examine(&config, &output))
    }

    async fn examine(&self, config: &Config, output: &Output) -> Result<(), Failed> {
        let mut dangers = 0;
        // First, and on its own: it may run where the Redis cannot be reached.
        if let Some(url) = &self.url {
            let report = ServerReport::of(url, self.token.as_deref()).await?;
            dangers += print(output, &report.section(), &report)?;
        }
        for report in RedisReport::all(config).await? {
            dangers += print(output, &report.section(), &report)?;
        }
        match dangers {
            0 => Ok(()),
            1 => Err("1 finding is a danger; its fix is above".into()),
            count => Err(format!("{count} findings are dangers; their fixes are above").into()),
        }
    }
}

/// Prints a report, and returns the number of dangers in it.
fn print(output: &Output, section: &Section, report: &impl serde::Serialize) -> Result<usize, Failed> {
    match output.is_for_people() {
        true => section.lines(output.style()).iter().try_for_each(|line| output.line(line))?,
        false => output.json(report)?,
    }
    Ok(section.findings.iter().filter(|finding| finding.severity == Severity::Danger).count())
}

async fn ready(config: &Config) -> Result<(), Failed> {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    tls::install_provider();
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
    // The certificate is for the name that clients use. No secret is sent to this address, and only its
    // answer is used.
    let client = client.tls_danger_accept_invalid_certs(true).build()?;
    let scheme = if config.server.tls_cert.is_some() { "https" } else { "http" };
    let answer = client.get(format!("{scheme}://{address}/readyz")).send().await;
    let answer = answer.map_err(|_| format!("nothing answers at {address} (server.listen)"))?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        return Err(format!("the server at {address} is not ready: {}", text.trim()).into());
    }
    Ok(Output::new(false).line(text.trim())?)
}
