//! The Redis of a server, for `roomlog doctor`.

use serde::Serialize;

use super::TIMEOUT;
use super::report::{Section, clock};
use crate::cli::Failed;
use crate::config::Config;
use crate::log::Durability;
use crate::redis::durability::{Finding, ServerFacts, Severity, findings, in_force};
use crate::redis::embedded::{Embedded, EmbeddedOptions, Found};
use crate::redis::{Unusable, inspect};
use crate::util::time::now_ms;

#[derive(Debug, Serialize)]
pub(super) struct RedisReport {
    /// Its URL, without secrets.
    redis: String,
    durability: Durability,
    in_force: String,
    findings: Vec<Finding>,
}

impl RedisReport {
    /// Examines each primary of the configured Redis, or the server's own Redis.
    pub(super) async fn all(config: &Config) -> Result<Vec<Self>, Failed> {
        let durability = config.durability();
        if let Some(url) = &config.redis.url {
            let refused = |error| Unusable(url.to_string(), error);
            let nodes = inspect(url.expose(), TIMEOUT).await.map_err(refused)?;
            let report = |(node, facts): (Option<String>, ServerFacts)| {
                let redis = node.map_or(url.to_string(), |node| format!("{url}, {node}"));
                Self::of(redis, durability, &facts)
            };
            return Ok(nodes.into_iter().map(report).collect());
        }
        let data_dir = config.embedded.data_dir.clone();
        let redis = format!("the server's own, in {}", data_dir.display());
        let options = EmbeddedOptions {
            data_dir,
            server: config.embedded.server.clone(),
            max_memory: config.embedded.max_memory,
        };
        let report = match Embedded::find(&options).await? {
            Found::Running { url } => {
                let facts = inspect(&url, TIMEOUT).await?.pop().map(|(_, facts)| facts).unwrap_or_default();
                Self::of(redis, durability, &facts)
            }
            Found::Idle { program, version } => Self {
                redis,
                durability,
                in_force: format!("not running; the server would start {} {version}", program.display()),
                findings: vec![Finding::new(
                    Severity::Fine,
                    "appendonly yes, appendfsync always, noeviction",
                    "so it would be started: neither kill nor power loss loses what was confirmed",
                    "",
                )],
            },
        };
        Ok(vec![report])
    }

    fn of(redis: String, durability: Durability, facts: &ServerFacts) -> Self {
        let mut findings = findings(facts, durability);
        let clock = facts.time_ms.map(|time| clock("Redis", time as i64 - now_ms() as i64));
        findings.extend(clock);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self { redis, durability, in_force: in_force(facts), findings }
    }

    pub(super) fn section(&self) -> Section<'_> {
        Section {
            title: format!("Redis: {}", self.redis),
            facts: vec![self.in_force.clone(), format!("requested: durability = \"{}\"", self.durability)],
            findings: &self.findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_report_names_each_finding_its_consequence_and_its_fix() {
        let facts =
            ServerFacts { version: "7.0.15".into(), aof_last_write_ok: true, ..ServerFacts::default() };
        let facts = ServerFacts { appendonly: Some(false), save: Some(String::new()), ..facts };
        let report = RedisReport::of("redis://h".into(), Durability::Disk, &facts);
        let lines = report.section().lines(Style::default());
        let at = lines.iter().position(|line| line == "danger   appendonly no");
        let words = at.and_then(|at| lines.get(at + 1..at + 4)).unwrap_or_default().join(" ");
        assert!(words.contains("loses everything"), "{lines:#?}");
        assert!(words.contains("fix: CONFIG SET appendonly yes"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("fix:") || line.chars().count() <= 80), "{lines:#?}");
    }

    #[test]
    fn a_clock_that_differs_is_a_warning() {
        let of = |ahead: i64| {
            let time_ms = Some((now_ms() as i64 + ahead) as u64);
            let facts = ServerFacts { time_ms, ..ServerFacts::default() };
            let report = RedisReport::of("redis://h".into(), Durability::Memory, &facts);
            report.findings.into_iter().find(|finding| finding.what.contains("clock"))
        };
        assert!(of(0).is_some_and(|finding| finding.severity == Severity::Fine));
        let behind = of(-90_000).map(|finding| (finding.severity, finding.what));
        let what = "the clock of Redis is 90 s behind that of this machine".to_owned();
        assert_eq!(behind, Some((Severity::Warning, what)));
    }
}
