//! `roomlog doctor`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::output::{Output, Style};
use super::remote::run;
use super::{ConfigArgs, Failed, RedisArgs};
use crate::config::Config;
use crate::log::Durability;
use crate::redis::durability::{Finding, ServerFacts, Severity, findings, in_force};
use crate::redis::embedded::{Embedded, EmbeddedOptions, Found};
use crate::redis::{Unusable, acl, inspect};
use crate::util::tls;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a line of text, in columns.
const WIDTH: usize = 78;

/// Reports risks to messages in the Redis that the server uses, or would use, and how to fix them. Changes
/// nothing. Exits with 1 if confirmed messages can be lost that the configured durability should keep.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    redis: RedisArgs,
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

#[derive(Debug, Serialize)]
struct Report {
    /// Its URL, without secrets.
    redis: String,
    durability: Durability,
    in_force: String,
    findings: Vec<Finding>,
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
        let reports = run(examine(&config))?;
        for report in &reports {
            match output.is_for_people() {
                true => report.lines(output.style()).iter().try_for_each(|line| output.line(line))?,
                false => output.json(report)?,
            }
        }
        let all = reports.iter().flat_map(|report| &report.findings);
        match all.filter(|finding| finding.severity == Severity::Danger).count() {
            0 => Ok(()),
            1 => Err("1 finding endangers messages".into()),
            count => Err(format!("{count} findings endanger messages").into()),
        }
    }
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

async fn examine(config: &Config) -> Result<Vec<Report>, Failed> {
    let durability = config.durability();
    if let Some(url) = &config.redis.url {
        let refused = |error| Unusable(url.to_string(), error);
        let nodes = inspect(url.expose(), TIMEOUT).await.map_err(refused)?;
        let report = |(node, facts): (Option<String>, ServerFacts)| Report {
            redis: node.map_or(url.to_string(), |node| format!("{url}, {node}")),
            durability,
            in_force: in_force(&facts),
            findings: findings(&facts, durability),
        };
        return Ok(nodes.into_iter().map(report).collect());
    }
    let data_dir = config.embedded.data_dir.clone();
    let place = data_dir.display().to_string();
    let options = EmbeddedOptions {
        data_dir,
        server: config.embedded.server.clone(),
        max_memory: config.embedded.max_memory,
    };
    let report = match Embedded::find(&options).await? {
        Found::Running { url } => {
            let facts = inspect(&url, TIMEOUT).await?.pop().map(|(_, facts)| facts).unwrap_or_default();
            Report {
                redis: format!("the server's own, in {place}"),
                durability,
                in_force: in_force(&facts),
                findings: findings(&facts, durability),
            }
        }
        Found::Idle { program, version } => Report {
            redis: format!("the server's own, in {place}"),
            durability,
            in_force: format!("not running; the server would start {} {version}", program.display()),
            findings: vec![Finding {
                severity: Severity::Fine,
                what: "appendonly yes, appendfsync always, noeviction".into(),
                consequence: "so it would be started: neither kill nor power loss loses what was confirmed"
                    .into(),
                fix: String::new(),
            }],
        },
    };
    Ok(vec![report])
}

impl Report {
    fn lines(&self, style: Style) -> Vec<String> {
        let Style { bold, dim, red, yellow, green, plain, .. } = style;
        let Self { redis, durability, in_force, findings } = self;
        let mut lines = vec![format!("{bold}Redis: {redis}{plain}")];
        lines.extend(wrap(in_force, 2));
        lines.push(format!("  {dim}requested: durability = \"{durability}\"{plain}"));
        for Finding { severity, what, consequence, fix } in findings {
            let (colour, word) = match severity {
                Severity::Danger => (red, "danger "),
                Severity::Warning => (yellow, "warning"),
                Severity::Fine => (green, "fine   "),
            };
            lines.push(String::new());
            lines.push(format!("{colour}{word}{plain}  {bold}{what}{plain}"));
            lines.extend(wrap(consequence, 9));
            // On one line, so that it can be copied.
            lines.extend((!fix.is_empty()).then(|| format!("         {green}fix:{plain} {fix}")));
        }
        lines
    }
}

fn wrap(text: &str, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(" ".repeat(indent) + word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_finding_its_consequence_and_its_fix() {
        let facts =
            ServerFacts { version: "7.0.15".into(), aof_last_write_ok: true, ..ServerFacts::default() };
        let facts = ServerFacts { appendonly: Some(false), save: Some(String::new()), ..facts };
        let report = Report {
            redis: "redis://h".into(),
            durability: Durability::Disk,
            in_force: in_force(&facts),
            findings: findings(&facts, Durability::Disk),
        };
        let lines = report.lines(Style::default());
        let at = lines.iter().position(|line| line == "danger   appendonly no");
        let words = at.and_then(|at| lines.get(at + 1..at + 4)).unwrap_or_default().join(" ");
        assert!(words.contains("loses everything"), "{lines:#?}");
        assert!(words.contains("fix: CONFIG SET appendonly yes"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("fix:") || line.chars().count() <= 80), "{lines:#?}");
    }
}
