//! Prometheus and the Redis exporter as an operator runs them, with the repository's own configuration. Only
//! the intervals are shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::redis::{Redis, free_port};
use super::{Rest, Server, eventually, repository};

/// A running Prometheus, with the exporters that it scrapes. Dropping it kills them.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    _exporters: Vec<Process>,
    rest: Rest,
    dir: TempDir,
}

fn start(program: &str, args: &[String]) -> Process {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(command)
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/install-deps.sh {program}"))
}

/// Shortens the durations in alert rules: alerts fire after seconds, and look at the last few seconds only.
fn hurried(rules: &str) -> String {
    let mut rules = rules.to_owned();
    for duration in ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "6h", "3d"] {
        rules = rules.replace(&format!("[{duration}]"), "[12s]");
        rules = rules.replace(&format!("[{duration}:1m]"), "[12s:1s]");
        rules = rules.replace(&format!("for: {duration}\n"), "for: 2s\n");
    }
    let long = rules.lines().find(|line| {
        let line = line.trim();
        ["m]", "h]", "d]"].iter().any(|end| line.contains(end))
            || (line.starts_with("for: ") && line != "for: 2s")
    });
    assert_eq!(long, None, "a duration that is not made short");
    rules
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these nodes and these Redis servers every second.
    pub async fn start(nodes: &[&Server], redises: &[&Redis]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut processes = Vec::new();
        let mut exporters = Vec::new();
        for redis in redises {
            let address = format!("127.0.0.1:{}", free_port());
            let args = ["--redis.addr", &redis.url(), "--web.listen-address", &address];
            processes.push(start("prometheus-redis-exporter", &args.map(str::to_owned)));
            exporters.push(address);
        }
        let nodes: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
        let config = repository("prometheus.yml")
            .replace("10s", "1s")
            .replace("roomlog-1:8080, roomlog-2:8080", &nodes.join(", "))
            .replace("redis-exporter:9121", &exporters.join(", "));
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let rules = dir.path().join("grafana/rules");
        std::fs::create_dir_all(&rules).unwrap();
        for file in ["recording.yml", "alerts.yml"] {
            let text = hurried(&repository(&format!("grafana/rules/{file}")));
            std::fs::write(rules.join(file), text).unwrap();
        }
        let address = format!("127.0.0.1:{}", free_port());
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let args = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={address}"),
        ];
        let process = start("prometheus", &args);
        let rest = Rest::at(&format!("http://{address}"));
        let prometheus = Self { process, _exporters: processes, rest, dir };
        eventually("Prometheus has read everything", async || {
            let all = nodes.len() + exporters.len();
            prometheus.is_up().await && prometheus.value("sum(up)").await == Some(all as f64)
        })
        .await;
        prometheus
    }

    /// Removes all targets whose address contains this, as service discovery does when nodes are removed.
    pub fn forget(&self, address: &str) {
        let path = self.dir.path().join("prometheus.yml");
        let mut config = std::fs::read_to_string(&path).unwrap();
        let targets = config.lines().find(|line| line.contains(address)).expect("a target").to_owned();
        let (start, rest) = targets.split_once('[').unwrap();
        let all = rest.trim_end_matches(']').split(", ");
        let kept: Vec<&str> = all.filter(|target| !target.contains(address)).collect();
        config = config.replace(&targets, &format!("{start}[{}]", kept.join(", ")));
        std::fs::write(&path, config).unwrap();
        self.process.signal(Signal::SIGHUP).unwrap();
    }

    async fn is_up(&self) -> bool {
        let ready = self.rest.request(reqwest::Method::GET, "/-/ready").send().await;
        ready.is_ok_and(|answer| answer.status().is_success())
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let request = self.rest.request(reqwest::Method::GET, path).query(query);
        let answer = super::answer(request).await;
        assert_eq!(answer.status, 200, "{query:?}: {}", answer.body);
        answer.body["data"].clone()
    }

    /// Returns the values of an instant query, each with its labels. The query must parse.
    pub async fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let data = self.ask("/api/v1/query", &[("query", expression)]).await;
        let series = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            (labels, series["value"][1].as_str().unwrap().parse().unwrap())
        };
        data["result"].as_array().unwrap().iter().map(series).collect()
    }

    /// Returns the only value of an instant query.
    pub async fn value(&self, expression: &str) -> Option<f64> {
        self.query(expression).await.first().map(|(_, value)| *value)
    }

    /// Returns the names of the alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let data = self.ask("/api/v1/alerts", &[]).await;
        let firing = |alert: &&Value| alert["state"] == "firing";
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        data["alerts"].as_array().unwrap().iter().filter(firing).map(name).collect()
    }

    /// Triggers the cause of an alert, which must not fire before, and waits until it fires.
    pub async fn fires(&self, alert: &str, cause: impl AsyncFnOnce()) {
        assert!(!self.firing().await.contains(alert), "{alert} fires before its cause");
        cause().await;
        eventually(&format!("{alert} fires"), async || self.firing().await.contains(alert)).await;
    }
}
