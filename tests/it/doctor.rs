//! `roomlog doctor`: what it finds in the Redis and at the running server.

use serde_json::{Value, json};

use crate::harness::{
    Authority, Clock, Redis, Run, Server, everything, now, redis_and_server, run, sign, token,
};

/// Returns the reports of a doctor that was asked about a server, of the server and of a Redis.
fn reports(run: &Run) -> [Value; 2] {
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.try_into().unwrap_or_else(|lines| panic!("{lines:?} {run:?}"))
}

/// Returns the findings of a severity.
fn found(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.filter(|finding| finding["severity"] == severity).map(|finding| finding.to_string()).collect()
}

async fn doctor(redis: &Redis, url: &str, token: &str) -> Run {
    let env = [("ROOMLOG_REDIS__URL", &*redis.url()), ("ROOMLOG_URL", url), ("ROOMLOG_TOKEN", token)];
    run(&["doctor"], &env).await
}

#[tokio::test]
async fn settings_that_endanger_messages_are_reported() {
    let redis = Redis::start().await;
    let output = run(&["doctor"], &[("ROOMLOG_REDIS__URL", &redis.url())]).await.success();
    let report: Value = serde_json::from_str(output.trim()).unwrap();
    let warnings = found(&report, "warning").join("\n");
    assert!(
        warnings.contains("appendonly no") && warnings.contains("CONFIG SET appendonly yes"),
        "{warnings}"
    );
    let fine = found(&report, "fine").join("\n");
    assert!(fine.contains("the clock of Redis agrees"), "{fine}");
}

#[tokio::test]
async fn a_server_that_works_is_fine() {
    let (redis, server) = redis_and_server().await;
    let output = doctor(&redis, &server.url(), &token("ann", json!({ "chat.*": ["read", "write"] }))).await;
    let [report, redis] = reports(&output);
    output.success();
    assert_eq!(
        (&report["server"], &report["version"]),
        (&json!(server.url()), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(redis["redis"].is_string());
    let fine = found(&report, "fine").join("\n");
    for part in [
        "the server is ready",
        "are both",
        "the clock of the server agrees",
        "stay on this machine",
        "web pages of other origins are refused",
        "the server accepts the token of ann",
        "grants read, write on chat.*",
        "WebSockets get through",
    ] {
        assert!(fine.contains(part), "{part}: {fine}");
    }
    assert_eq!(found(&report, "danger").len() + found(&report, "warning").len(), 0, "{report}");
}

#[tokio::test]
async fn tokens_that_the_server_refuses_are_explained() {
    let (redis, server) = redis_and_server().await;
    let expired = sign(&json!({ "sub": "ann", "exp": now() - 3600 }));
    let early = sign(&json!({ "sub": "ann", "exp": now() + 7200, "nbf": now() + 3600 }));
    for (token, reason) in [
        (expired.as_str(), "token_expired: the token expired at 20"),
        (early.as_str(), "`nbf` is in the future"),
        ("nonsense", "not a JWT"),
    ] {
        let output = doctor(&redis, &server.url(), token).await;
        let [report, _] = reports(&output);
        let dangers = found(&report, "danger").join("\n");
        assert!(dangers.contains(reason) && dangers.contains("roomlog token"), "{dangers}");
        assert!(output.failure().contains("1 finding is a danger"));
    }
}

#[tokio::test]
async fn servers_that_cannot_be_used_are_reported_beside_their_redis() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_SERVER__ALLOWED_ORIGINS", "*"), ("ROOMLOG_REDIS__DURABILITY", "disk")];
    let server = Server::with(&redis.url(), &env).await;
    let [report, _] = reports(&doctor(&redis, &server.url(), &everything("ann")).await);
    assert!(found(&report, "warning").join("\n").contains("web pages of every origin"), "{report}");
    assert!(found(&report, "danger").join("\n").contains("less durable than configured"), "{report}");

    let nothing = doctor(&redis, "http://127.0.0.1:1", "").await;
    let [report, _] = reports(&nothing);
    assert!(found(&report, "danger").join("\n").contains("cannot be reached"), "{report}");
    nothing.failure();

    let other = Redis::on_port(&[]).await;
    let url = format!("http://127.0.0.1:{}", other.port());
    let [report, _] = reports(&doctor(&redis, &url, "").await);
    assert!(found(&report, "danger").join("\n").contains(&url), "{report}");
}

#[tokio::test]
async fn clocks_that_differ_are_reported() {
    let (of_redis, of_server) = (Clock::new(), Clock::new());
    let redis = Redis::on_clock(&of_redis, &["--appendonly", "no"]).await;
    let clock = of_server.env();
    let server =
        Server::with(&redis.url(), &clock.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    of_redis.shift(-60_000);
    of_server.shift(3_600_000);
    let [server, redis] = reports(&doctor(&redis, &server.url(), "").await);
    let [server, redis] = [&server, &redis].map(|report| found(report, "warning").join("\n"));
    // Whole seconds: the server names no fractions, and time passes between the readings.
    let ahead = ["3598 s", "3599 s", "3600 s", "3601 s"].map(|by| format!("of the server is {by} ahead"));
    assert!(ahead.iter().any(|ahead| server.contains(ahead)), "{server}");
    assert!(redis.contains("the clock of Redis is 60 s behind") || redis.contains("61 s behind"), "{redis}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_explained() {
    let redis = Redis::start().await;
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let env = [("ROOMLOG_SERVER__TLS_CERT", &*files[0]), ("ROOMLOG_SERVER__TLS_KEY", &*files[1])];
    let server = Server::with(&redis.url(), &env).await;
    let url = format!("https://localhost:{}", server.address.port());
    let [report, _] = reports(&doctor(&redis, &url, "").await);
    let dangers = found(&report, "danger").join("\n");
    assert!(dangers.contains("SSL_CERT_FILE"), "{dangers}");
    let redis_url = redis.url();
    let file = authority.file();
    let env = [("ROOMLOG_REDIS__URL", &*redis_url), ("ROOMLOG_URL", &url), ("SSL_CERT_FILE", &*file)];
    let [report, _] = reports(&run(&["doctor"], &env).await);
    assert!(found(&report, "fine").join("\n").contains("TLS works"), "{report}");
}
