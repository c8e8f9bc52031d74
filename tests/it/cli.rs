//! The command line, as a person or a script uses it.

use serde_json::{Value, json};

use crate::harness::{Client, Redis, Server, everything, run, seqs, spawn};

/// What a command needs to reach a server: its address and a token.
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
    let redis = Redis::start().await;
    let server = Server::on(&redis.url()).await;
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
async fn doctor_says_what_endangers_messages() {
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
