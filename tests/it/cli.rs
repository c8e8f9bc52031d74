//! The command line, as a person or a script uses it.

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Running, Server, everything, id_of, redis_and_server, run, run_with_input, seqs, spawn,
};

/// The options that a command needs to reach a server: its address and a token.
struct Shell {
    url: String,
    token: String,
}

impl Shell {
    fn env(&self) -> [(&str, &str); 2] {
        [("ROOMLOG_URL", &self.url), ("ROOMLOG_TOKEN", &self.token)]
    }

    async fn run(&self, args: &[&str]) -> String {
        run(args, &self.env()).await.success()
    }
}

fn lines(output: &str) -> Vec<Value> {
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

async fn start() -> (Redis, Server, Shell) {
    let (redis, server) = redis_and_server().await;
    let shell = Shell { url: server.url(), token: crate::harness::admin() };
    (redis, server, shell)
}

#[tokio::test]
async fn a_token_from_the_command_line_is_accepted() {
    let (_redis, server, _shell) = start().await;
    let args =
        ["token", "--user", "ann", "--room", "chat.*=read,write", "--room", "news=read", "--ttl", "1h"];
    let token = run(&args, &[]).await.success();
    let mut client = Client::connect(&server, token.trim()).await;
    client.publish("chat.general", json!(1)).await;
    client.join("news").await;
    let publish = json!({ "op": "publish", "room": "news", "data": 1 });
    assert_eq!(client.error(publish).await, "forbidden");

    for bad in [
        &["token"][..],
        &["token", "--user", "ann", "--room", "a=fly"],
        &["token", "--user", "ann", "--ttl", "x"],
    ] {
        let error = run(bad, &[]).await.failure();
        assert!(!error.is_empty() && !error.contains("panicked"), "{error}");
    }
}

#[tokio::test]
async fn messages_are_published_read_and_followed() {
    let (_redis, server, shell) = start().await;
    shell.run(&["publish", "room", "{\"text\":\"hi\"}"]).await;
    shell.run(&["publish", "room", "plain words"]).await;
    let history = lines(&shell.run(&["history", "room"]).await);
    assert_eq!(seqs(&history), [1, 2]);
    assert_eq!(history[0]["data"], json!({ "text": "hi" }));

    let mut tail = spawn(&["tail", "room", "--since", "0"], &shell.env());
    let seen: Vec<Value> = lines(&tail.lines(2).await.join("\n"));
    assert_eq!(seen, history);
    Client::connect(&server, &everything("bob")).await.publish("room", json!(3)).await;
    assert_eq!(lines(&tail.lines(3).await.join("\n"))[2]["data"], 3);
    tail.interrupt().await;

    let rooms = shell.run(&["rooms"]).await;
    assert!(rooms.contains("\"room\""), "{rooms}");
}

#[tokio::test]
async fn lines_are_published_and_a_whole_history_is_read() {
    let (_redis, _server, shell) = start().await;
    let input: String = (0..250).map(|n| format!("line {n}\n")).collect();
    run_with_input(&["publish", "room", "-"], &shell.env(), &input).await.success();
    let all = lines(&shell.run(&["history", "room", "--all"]).await);
    assert_eq!(seqs(&all), (1..=250).collect::<Vec<_>>());
    assert_eq!(all[7]["data"], "line 7");
    let some = lines(&shell.run(&["history", "room", "--after", &id_of(&all[99]), "--limit", "3"]).await);
    assert_eq!(seqs(&some), [101, 102, 103]);
    let recent = lines(&shell.run(&["history", "room", "--from-time", "5m", "--limit", "2"]).await);
    assert_eq!(seqs(&recent), [1, 2]);

    let key = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    for _ in 0..2 {
        shell.run(&["publish", "keyed", "1", "--key", key]).await;
    }
    assert_eq!(lines(&shell.run(&["history", "keyed"]).await).len(), 1);
}

#[tokio::test]
async fn a_durable_tail_resumes_where_it_stopped() {
    let (_redis, _server, shell) = start().await;
    for n in 1..=3 {
        shell.run(&["publish", "room", &n.to_string()]).await;
    }
    let mut first = spawn(&["tail", "room", "--durable", "job", "--since", "0"], &shell.env());
    assert_eq!(seqs(&lines(&first.lines(3).await.join("\n"))), [1, 2, 3]);
    first.interrupt().await;
    shell.run(&["publish", "room", "4"]).await;
    let second = spawn(&["tail", "room", "--durable", "job"], &shell.env());
    assert_eq!(seqs(&lines(&second.lines(1).await.join("\n"))), [4]);
}

#[tokio::test]
async fn a_tail_outlives_its_server() {
    let (redis, mut server) = redis_and_server().await;
    let address = server.address.to_string();
    let shell = Shell { url: server.url(), token: crate::harness::admin() };
    let tail = spawn(&["tail", "room", "--since", "0"], &shell.env());
    shell.run(&["publish", "room", "1"]).await;
    tail.lines(1).await;
    server.kill();
    drop(server);
    let _server = Server::at(&address, &redis.url()).await;
    shell.run(&["publish", "room", "2"]).await;
    assert_eq!(seqs(&lines(&tail.lines(2).await.join("\n"))), [1, 2]);
}

#[tokio::test]
async fn failures_print_a_reason_and_exit_with_a_status() {
    let (_redis, server, shell) = start().await;
    let url = server.url();
    let reader = crate::harness::token("eve", json!({ "room": ["read"] }));
    let cases: [(&[&str], &str, &str); 4] = [
        (&["publish", "room", "1"], &reader, "grant"),
        (&["rooms"], &reader, "grant"),
        (&["history", "room"], "nonsense", "token"),
        (&["tail", "a room"], &shell.token, "room"),
    ];
    for (args, token, word) in cases {
        let error = run(args, &[("ROOMLOG_URL", &url), ("ROOMLOG_TOKEN", token)]).await.failure();
        assert!(error.to_lowercase().contains(word) && !error.contains("panicked"), "{args:?}: {error}");
    }
    let nowhere = [("ROOMLOG_URL", "http://127.0.0.1:1"), ("ROOMLOG_TOKEN", &*shell.token)];
    let error = run(&["history", "room"], &nowhere).await.failure();
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

/// Starts `serve --dev` with a data directory. Returns the address and the token that it prints.
async fn dev(dir: &std::path::Path) -> (Running, [(&'static str, String); 2]) {
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", dir.to_str().unwrap()];
    let server = spawn(&args, &[("ROOMLOG_AUTH__HS256_SECRET", "")]);
    let mut env = None;
    crate::harness::eventually("it prints the next steps", async || {
        let said = server.lines(1).await.join("\n");
        let value = |name: &'static str| {
            let (_, rest) = said.split_once(&format!("export {name}="))?;
            Some((name, rest.split_whitespace().next()?.to_owned()))
        };
        env = Some(["ROOMLOG_URL", "ROOMLOG_TOKEN"].map(value)).filter(|_| said.contains("In a browser"));
        env.is_some()
    })
    .await;
    (server, env.unwrap().map(Option::unwrap))
}

#[tokio::test]
async fn tokens_of_a_development_server_survive_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, [_, token]) = dev(dir.path()).await;
    first.interrupt().await;
    let (_second, [url, _]) = dev(dir.path()).await;
    let env = [("ROOMLOG_URL", &*url.1), ("ROOMLOG_TOKEN", &*token.1)];
    run(&["publish", "chat.general", "hello"], &env).await.success();
}

#[tokio::test]
async fn trying_things_out_takes_one_command() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, env) = dev(dir.path()).await;
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(&["publish", "chat.general", "hello"], &env).await.success();
    let history = run(&["history", "chat.general"], &env).await.success();
    assert_eq!(lines(&history)[0]["data"], "hello");

    let open = ["serve", "--dev", "--listen", "0.0.0.0:0", "--data-dir", dir.path().to_str().unwrap()];
    let error = run(&open, &[]).await.failure();
    assert!(error.contains("--dev"), "{error}");
}

#[tokio::test]
async fn flags_override_the_environment_and_that_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roomlog.toml");
    std::fs::write(&file, "[limits]\nmax_message = 1000\n[server]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    let printed = run(&["config", "--config", file, "--effective"], &[]).await.success();
    assert!(printed.contains("max_message = 1000"), "{printed}");
    let env = [("ROOMLOG_LIMITS__MAX_MESSAGE", "2000")];
    let printed = run(&["config", "--config", file, "--effective"], &env).await.success();
    assert!(printed.contains("max_message = 2000") && printed.contains("127.0.0.1:1"), "{printed}");
    assert!(!printed.contains(crate::harness::SECRET), "secrets are not printed");
    // The file has an unusable address, which the harness's flag overrides.
    let redis = Redis::start().await;
    let server = Server::serve(&["--config", file], &[("ROOMLOG_REDIS__URL", &redis.url())]).await;
    let mut client = Client::open(&server, crate::harness::Upgrade::default()).await.unwrap();
    let answer = client.ok(json!({ "op": "connect", "token": everything("ann") })).await;
    assert_eq!(answer["max_message"], 1000);
}

#[tokio::test]
async fn doctor_reports_settings_that_endanger_messages() {
    let redis = Redis::start().await;
    let output = run(&["doctor"], &[("ROOMLOG_REDIS__URL", &redis.url())]).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("appendonly"), "{said}");
}

#[tokio::test]
async fn the_configuration_is_printed() {
    let output = run(&["config"], &[]).await.success();
    assert!(output.contains("[server]") && output.contains("max_message"), "{output}");
    assert!(!output.contains(crate::harness::SECRET), "secrets are not printed");
}
