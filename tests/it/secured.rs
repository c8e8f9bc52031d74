//! Redis and JWK sets that are reached over TLS or with a password, and the server's errors if that fails.

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::harness::{Authority, Client, Nginx, Redis, Server, everything, free_port, id_of, now, run, sign};
use crate::keys::{accepts, fixture, signed};

/// Starts a Redis that has a TLS port besides its own. Returns the URL of the TLS port.
async fn with_tls(authority: &Authority, hosts: &[&str], settings: &[&str]) -> (Redis, String) {
    let ([certificate, key], port) = (authority.issue(hosts), free_port());
    let url = format!("rediss://localhost:{port}");
    let (port, ca) = (port.to_string(), authority.file());
    let tls = [
        ["--tls-port", &port],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &ca],
    ];
    let settings: Vec<&str> = tls.iter().flatten().chain(settings).copied().collect();
    (Redis::on_port(&settings).await, url)
}

/// Returns the error of a `roomlog serve` that cannot use the Redis at this URL.
async fn refusal(url: &str, env: &[(&str, &str)]) -> String {
    let run = run(&["serve", "--listen", "127.0.0.1:0", "--redis-url", url], env).await;
    let said = run.failure();
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("roomlog: "), "{said}");
    assert!(!said.contains("hunter"), "no password is told: {said}");
    last
}

/// Checks that each of these parts is in the text.
fn says(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} is not all in: {text}");
}

#[tokio::test]
async fn redis_is_reached_over_tls_and_with_a_password_of_any_characters() {
    let authority = Authority::new();
    let (redis, url) = with_tls(&authority, &["localhost"], &["--tls-auth-clients", "no"]).await;
    redis.ask(&["ACL", "SETUSER", "roomlog", "on", ">hunter/2@", "~*", "&*", "+@all"]);
    let url = url.replace("localhost", "roomlog:hunter%2F2%40@localhost");
    let env = [("SSL_CERT_FILE", &*authority.file())];
    let (one, two) = (Server::with(&url, &env).await, Server::with(&url, &env).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut reader = Client::connect(&two, &everything("bob")).await;
    reader.join("room").await;
    let id = writer.publish("room", json!(1)).await;
    assert_eq!(id_of(&reader.expect("message").await), id);
}

#[tokio::test]
async fn a_password_suffices_and_a_missing_one_fails_with_advice() {
    let redis = Redis::on_port(&[]).await;
    redis.ask(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", redis.port());
    let server = Server::on(&url(":hunter2@")).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.publish("room", json!(1)).await;
    says(&refusal(&url(""), &[]).await, &["requires a password", "redis://:password@"]);
    for wrong in [":hunter3@", "ann:hunter2@"] {
        says(&refusal(&url(wrong), &[]).await, &["refused the user or password", "redis://user:password@"]);
    }
    says(&refusal(&url(":hunter/2@"), &[]).await, &["redis.url cannot be used", "%2F"]);
    let doctor = run(&["doctor", "--redis-url", &url("")], &[]).await.failure();
    says(&doctor, &[&format!("the Redis at {}", url("")), "requires a password"]);
}

#[tokio::test]
async fn a_redis_user_without_rights_is_reported_with_the_denied_command() {
    let redis = Redis::on_port(&[]).await;
    let url = format!("redis://few:hunter2@127.0.0.1:{}", redis.port());
    let all = ["ACL", "SETUSER", "few", "reset", "on", ">hunter2", "~*", "&*", "+@all"];
    for (less, denied) in [
        (&["-function|load"][..], "function|load"),
        (&["resetkeys", "~other:*"], "key"),
        (&["resetchannels", "&roomlog:dummy"], "channel"),
        (&["resetchannels", "&rl:*"], "channel"),
    ] {
        redis.ask(&all);
        redis.ask(&[&["ACL", "SETUSER", "few"], less].concat());
        says(&refusal(&url, &[]).await, &["NOPERM", denied, "ACL SETUSER", "roomlog doctor --acl"]);
    }
}

#[tokio::test]
async fn tls_failures_come_with_advice() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (redis, url) = with_tls(&authority, &["localhost"], &["--tls-auth-clients", "no"]).await;
    let trusting = [("SSL_CERT_FILE", &*authority.file())];
    let stranger = refusal(&url, &[("SSL_CERT_FILE", &*other.file())]).await;
    says(&stranger, &["TLS failed", "UnknownIssuer", "SSL_CERT_FILE=/path/ca.pem"]);
    let elsewhere = url.replace("localhost", "127.0.0.1");
    says(
        &refusal(&elsewhere, &trusting).await,
        &["TLS failed", "NotValidForName", "a host that the certificate names"],
    );
    let no_file = refusal(&url, &[("SSL_CERT_FILE", "/nowhere/ca.pem")]).await;
    says(&no_file, &["/nowhere/ca.pem", "must name PEM files"]);
    let without = url.replace("rediss://", "redis://");
    says(&refusal(&without, &[]).await, &["connection reset", "If Redis expects TLS", "rediss://"]);
    let with = format!("rediss://localhost:{}", redis.port());
    says(&refusal(&with, &trusting).await, &["no answer in time", "does it use TLS"]);

    let (_redis, url) = with_tls(&authority, &["localhost"], &["--tls-auth-clients", "yes"]).await;
    says(&refusal(&url, &trusting).await, &["CertificateRequired", "tls-auth-clients no"]);
}

#[tokio::test]
async fn a_key_set_is_read_over_https_only_with_a_trusted_certificate() {
    let authority = Authority::new();
    let [certificate, key] = authority.issue(&["localhost"]);
    let keys = fixture("").trim_end_matches('/').to_owned();
    let nginx = Nginx::start(|address, dir| {
        let dir = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};"))
            .concat();
        format!(
            "pid {dir}/pid; events {{}}
             http {{ access_log off; {temporary} server {{
                 listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; root {keys};
             }} }}"
        )
    })
    .await;
    let redis = Redis::start().await;
    let url = format!("https://localhost:{}/jwks.json", nginx.address.port());
    let env = [
        ("ROOMLOG_AUTH__JWKS_URL", &*url),
        ("ROOMLOG_AUTH__HS256_SECRET", ""),
        ("SSL_CERT_FILE", &*authority.file()),
    ];
    let server = Server::with(&redis.url(), &env).await;
    assert!(accepts(&server, &signed(Algorithm::RS256, "rsa_a.private.pem", None, &json!({}))).await);
    let by_stranger = sign(&json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read"] } }));
    assert!(!accepts(&server, &by_stranger).await);

    let [address, none, _] = env;
    let stranger =
        refusal(&redis.url(), &[address, none, ("SSL_CERT_FILE", &*Authority::new().file())]).await;
    says(&stranger, &[&url, "UnknownIssuer", "SSL_CERT_FILE=/path/ca.pem"]);
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let elsewhere = refusal(&redis.url(), &[("ROOMLOG_AUTH__JWKS_URL", &elsewhere), env[1], env[2]]).await;
    says(&elsewhere, &["a host that the certificate names"]);
}
