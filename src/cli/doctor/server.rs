//! A running server as its clients see it, for `roomlog doctor`.

mod request;

use std::net::IpAddr;

use reqwest::{StatusCode, Url};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use self::request::{Answer, Requests};
use super::TIMEOUT;
use super::report::{Section, clock};
use crate::auth::RawClaims;
use crate::cli::Failed;
use crate::cli::remote::{client, make_token};
use crate::cli::times::Times;
use crate::protocol::{ErrorCode, Failure, RoomName};
use crate::redis::durability::{Finding, Severity};
use crate::util::tls;
use roomlog_client::{Client, ConnectOptions, Error};

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The room that is asked for to find out whether the server accepts a token. It need not exist.
const ROOM: &str = "roomlog.doctor";

/// An origin that no server has reason to list.
const STRANGER: &str = "https://stranger.invalid";

#[derive(Debug, Serialize)]
pub(super) struct ServerReport {
    /// Its address.
    server: String,
    /// Its version, if it tells.
    version: Option<String>,
    findings: Vec<Finding>,
}

impl ServerReport {
    /// Examines a server, and whether it accepts a token.
    ///
    /// # Errors
    /// If the address or the token cannot be used at all.
    pub(super) async fn of(url: &str, token: Option<&str>) -> Result<Self, Failed> {
        let client = client(url, token)?;
        let requests = Requests::new(url)?;
        let mut report = Self { server: url.to_owned(), version: None, findings: Vec::new() };
        match requests.get("readyz").await {
            Err(cause) => report.findings.push(unreachable(url, &cause)),
            Ok(answer) => {
                let is_roomlog = is_roomlog(&answer);
                report.findings.push(readiness(&answer));
                if is_roomlog {
                    report.examine(&requests, &client, &answer, token).await;
                }
            }
        }
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(report)
    }

    async fn examine(&mut self, requests: &Requests, client: &Client, answer: &Answer, token: Option<&str>) {
        if let Ok(document) = requests.get("openapi.json").await {
            let document: Value = serde_json::from_str(&document.body).unwrap_or_default();
            self.version = document["info"]["version"].as_str().map(str::to_owned);
            self.findings.extend(self.version.as_deref().map(version));
        }
        if let Ok(metrics) = requests.get("metrics").await {
            self.findings.extend(troubles(&metrics.body));
        }
        self.findings.extend(answer.ahead_ms.map(|ahead| clock("the server", ahead)));
        self.findings.push(encryption(requests.url()));
        if let Ok(answer) = requests.get_from("healthz", STRANGER).await {
            self.findings.push(origins(&answer));
        }
        if let Some(token) = token.filter(|token| !token.trim().is_empty()) {
            let accepted = acceptance(client, token).await;
            let is_accepted = accepted.severity == Severity::Fine;
            self.findings.push(accepted);
            if is_accepted {
                self.findings.push(websocket(client).await);
            }
        }
    }

    pub(super) fn section(&self) -> Section<'_> {
        let version = self.version.as_ref().map(|version| format!("Roomlog {version}"));
        Section {
            title: format!("Server: {}", self.server),
            facts: version.into_iter().collect(),
            findings: &self.findings,
        }
    }
}

fn unreachable(url: &str, cause: &str) -> Finding {
    let start = "start it, or set ROOMLOG_URL or --url to its address, such as http://127.0.0.1:8080";
    let fix = tls::advice(cause).unwrap_or(start);
    Finding::new(Severity::Danger, format!("{url} cannot be reached"), cause, fix)
}

/// Returns whether the answer of `/readyz` is that of a Roomlog server.
fn is_roomlog(answer: &Answer) -> bool {
    answer.body.starts_with("ready;") || answer.problem().is_some()
}

fn readiness(answer: &Answer) -> Finding {
    if let Some(durability) = answer.body.strip_prefix("ready;") {
        return Finding::new(Severity::Fine, "the server is ready", durability.trim(), "");
    }
    match answer.problem() {
        Some(reason) => {
            let fix = "read the server's log, and run `roomlog doctor` with its configuration";
            Finding::new(Severity::Danger, "the server is not ready", &reason, fix)
        }
        None => {
            let what = "the server at this address is not Roomlog";
            let status = format!("it answers /readyz with HTTP status {}", answer.status);
            let fix = match answer.status.is_redirection() {
                true => "set ROOMLOG_URL or --url to the address to which it redirects",
                false => "set ROOMLOG_URL or --url to the address of the server",
            };
            Finding::new(Severity::Danger, what, &status, fix)
        }
    }
}

fn version(theirs: &str) -> Finding {
    if theirs == VERSION {
        return Finding::new(
            Severity::Fine,
            format!("this program and the server are both {VERSION}"),
            "",
            "",
        );
    }
    let what = format!("this program is {VERSION}, and the server is {theirs}");
    let consequence = "commands may lack options of the server, or use some that it does not have";
    Finding::new(Severity::Warning, what, consequence, "install the same version here")
}

/// Returns what the metrics warn about. A server with a listener for metrics has none here.
fn troubles(metrics: &str) -> Vec<Finding> {
    let has = |line: &str| metrics.lines().any(|one| one == line);
    let mut found = Vec::new();
    if has("roomlog_durability_as_wanted 0") {
        found.push(Finding::new(
            Severity::Danger,
            "messages are less durable than configured",
            "confirmed messages can be lost that redis.durability should keep",
            "run `roomlog doctor` with the server's configuration: it names the setting of Redis",
        ));
    }
    if has("roomlog_redis_full 1") {
        found.push(Finding::new(
            Severity::Danger,
            "Redis is nearly full",
            "publishes and new durable subscriptions are refused",
            "raise maxmemory of Redis, or delete rooms and messages",
        ));
    }
    found
}

fn encryption(url: &Url) -> Finding {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match (url.scheme(), is_local) {
        ("https", _) => {
            Finding::new(Severity::Fine, "TLS works", "the certificate is valid for this host", "")
        }
        (_, true) => Finding::new(Severity::Fine, "connections stay on this machine, without TLS", "", ""),
        _ => Finding::new(
            Severity::Warning,
            "connections are not encrypted",
            "others in the network can read messages and tokens, and use the tokens",
            "set server.tls_cert and server.tls_key, or put a proxy with TLS in front, and use https://",
        ),
    }
}

fn origins(answer: &Answer) -> Finding {
    if answer.status == StatusCode::FORBIDDEN {
        let what = "web pages of other origins are refused, unless server.allowed_origins lists them";
        return Finding::new(Severity::Fine, what, "", "");
    }
    Finding::new(
        Severity::Warning,
        "web pages of every origin may use the server",
        "any page with a user's token can act as that user",
        "list the origins of your pages in server.allowed_origins instead of *",
    )
}

/// Asks the server whether it accepts the token.
async fn acceptance(client: &Client, token: &str) -> Finding {
    let asked = async {
        let room: RoomName = ROOM.parse().map_err(Failure::from)?;
        client.room(&room).await
    };
    let refusal = match asked.await {
        Err(Error::Refused(failure))
            if !matches!(failure.code, ErrorCode::NotFound | ErrorCode::Forbidden) =>
        {
            failure
        }
        Err(error @ (Error::Unreachable { .. } | Error::Foreign { .. })) => {
            let what = "the server does not answer requests with a token";
            return Finding::new(
                Severity::Danger,
                what,
                &error.to_string(),
                "try again, and read the server's log",
            );
        }
        _ => return accepted(token),
    };
    let what = "the server does not accept the token";
    let fix = format!("set ROOMLOG_TOKEN or --token to a new one: {} makes one", make_token());
    Finding::new(Severity::Danger, what, &refusal.to_string(), &fix)
}

fn accepted(token: &str) -> Finding {
    let claims = RawClaims::unverified(token);
    let user = claims.as_ref().and_then(|claims| claims.sub.clone()).unwrap_or_default();
    let details = claims.map_or(String::new(), |claims| {
        let until = Times::default().full(claims.exp.unwrap_or_default().saturating_mul(1000));
        format!("it is valid until {until} UTC, and grants {}", claims.rooms)
    });
    Finding::new(Severity::Fine, format!("the server accepts the token of {user}"), &details, "")
}

async fn websocket(client: &Client) -> Finding {
    let connection = client.connect(ConnectOptions::default());
    let cause = match timeout(TIMEOUT, connection.connected()).await {
        Ok(Ok(())) => return Finding::new(Severity::Fine, "WebSockets get through", "", ""),
        Ok(Err(error)) => error.to_string(),
        Err(_) => match connection.state() {
            roomlog_client::State::Waiting { error, .. } => error.to_string(),
            _ => format!("no answer for {} s", TIMEOUT.as_secs()),
        },
    };
    Finding::new(
        Severity::Danger,
        "WebSockets do not get through",
        &cause,
        "let the proxy in front of the server pass upgrades of /v1/ws, as deploy/nginx.conf does",
    )
}
