//! The command line, as a person or a script uses it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Running, Server, everything, id_of, now, redis_and_server, run, run_with_input,
    seqs, sign, spawn, token_with_id,
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

#[tokio::test]
async fn every_command_says_that_the_token_has_expired_and_how_to_get_another() {
    let (_redis, _server, shell) = start().await;
    let expired = sign(&json!({ "sub": "ann", "exp": now() - 7200, "rooms": { "*": ["read", "write"] } }));
    let says = |error: &str| {
        let told = ["has expired at 20", "UTC, 2 hours ago", "roomlog token --user", "--dev"];
        assert!(told.iter().all(|part| error.contains(part)), "{error}");
    };
    let env = [("ROOMLOG_URL", &*shell.url), ("ROOMLOG_TOKEN", &*expired)];
    for args in [
        &["publish", "room", "1"][..],
        &["tail", "room"],
        &["history", "room"],
        &["rooms"],
        &["subscriptions", "room"],
        &["delete", "room", "--yes"],
        &["revoke", "--user", "bob"],
    ] {
        says(&run(args, &env).await.failure());
    }

    // While the command runs. Tokens are accepted for five seconds longer.
    let brief = sign(&json!({ "sub": "ann", "exp": now() - 3, "rooms": { "*": ["read"] } }));
    let env = [("ROOMLOG_URL", &*shell.url), ("ROOMLOG_TOKEN", &*brief)];
    let error = run(&["tail", "room"], &env).await.failure();
    assert!(error.contains("has expired at 20") && error.contains("roomlog token"), "{error}");
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
    assert_eq!(lines(&history).last().unwrap()["data"], "hello");

    let open = ["serve", "--dev", "--listen", "0.0.0.0:0", "--data-dir", dir.path().to_str().unwrap()];
    let error = run(&open, &[]).await.failure();
    assert!(error.contains("--dev"), "{error}");
}

#[tokio::test]
async fn a_development_server_begins_with_a_tour_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, env) = dev(dir.path()).await;
    let read = async |env: &[(&'static str, String); 2]| {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        lines(&run(&["history", "chat.general", "--all"], &env).await.success())
    };
    let tour = read(&env).await;
    assert_eq!(seqs(&tour), [1, 2, 3]);
    assert!(tour.iter().all(|message| message["from"] == "roomlog" && message["data"]["text"].is_string()));
    first.interrupt().await;
    let (mut second, env) = dev(dir.path()).await;
    assert_eq!(read(&env).await, tour);

    // Not even after the messages are gone.
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for message in &tour {
        run(&["delete", "chat.general", "--message", &id_of(message), "--yes"], &env).await.success();
    }
    second.interrupt().await;
    let (_third, env) = dev(dir.path()).await;
    assert_eq!(read(&env).await, Vec::<Value>::new());
}

#[tokio::test]
async fn development_servers_that_start_together_store_one_tour() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let args = ["--dev", "--data-dir", dir.path().to_str().unwrap()];
    let env = [("ROOMLOG_REDIS__URL", redis.url())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (server, _other) = tokio::join!(Server::serve(&args, &env), Server::serve(&args, &env));
    let shell = Shell { url: server.url(), token: crate::harness::admin() };
    assert_eq!(seqs(&lines(&shell.run(&["history", "chat.general", "--all"]).await)), [1, 2, 3]);
}

#[tokio::test]
async fn rooms_messages_and_subscriptions_are_deleted() {
    let (_redis, server, shell) = start().await;
    shell.run(&["publish", "room", "1"]).await;
    let id = id_of(&lines(&shell.run(&["publish", "room", "2"]).await)[0]);
    let mut client = Client::connect(&server, &everything("team/ann")).await;
    client.request(json!({ "op": "subscribe", "room": "room", "durable": "phone", "since": "0" })).await;
    let listed = lines(&shell.run(&["subscriptions", "room"]).await);
    assert_eq!(
        listed,
        [json!({ "user": "team/ann", "name": "phone", "position": "0-0", "lag": 2, "connected": true })]
    );

    let asking = [
        &["subscriptions", "room", "--delete", "team/ann/phone"][..],
        &["delete", "room", "--message", &id],
        &["delete", "room"],
    ];
    for args in asking {
        let error = run(args, &shell.env()).await.failure();
        assert!(error.contains("--yes"), "{error}");
    }
    assert_eq!(lines(&shell.run(&["history", "room"]).await).len(), 2, "nothing was deleted");
    for args in asking {
        let deleted = lines(&shell.run(&[args, &["--yes"]].concat()).await);
        assert_eq!(deleted[0]["deleted"]["room"], "room");
        let error = run(&[args, &["--yes"]].concat(), &shell.env()).await.failure();
        assert!(error.contains("not_found"), "{error}");
    }
    assert_eq!(lines(&shell.run(&["subscriptions", "room"]).await), Vec::<Value>::new());
}

#[tokio::test]
async fn many_subscriptions_are_listed_in_pages() {
    let (_redis, server, shell) = start().await;
    shell.run(&["publish", "room", "1"]).await;
    for user in ["ann", "bob"] {
        let rest = Rest::new(&server, &everything(user));
        for number in 0..600 {
            let body = json!({ "durable": format!("s{number}"), "since": "0" });
            rest.post("/v1/rooms/room/subscriptions", &body).await.with(200);
        }
    }
    let listed = lines(&shell.run(&["subscriptions", "room"]).await);
    let names: BTreeSet<String> =
        listed.iter().map(|one| format!("{}/{}", one["user"], one["name"])).collect();
    assert_eq!((listed.len(), names.len()), (1200, 1200));
}

#[tokio::test]
async fn tokens_are_revoked_by_their_id_and_by_their_user() {
    let (_redis, server, shell) = start().await;
    let grants = json!({ "*": ["read", "write"] });
    let marked = token_with_id("ann", grants.clone(), "laptop");
    for (args, token) in
        [(["revoke", "--jti", "laptop"], &marked), (["revoke", "--user", "bob"], &everything("bob"))]
    {
        Client::connect(&server, token).await;
        shell.run(&args).await;
        let env = [("ROOMLOG_URL", &*shell.url), ("ROOMLOG_TOKEN", token)];
        let error = run(&["history", "room"], &env).await.failure();
        assert!(error.contains("token_revoked: the token was revoked"), "{error}");
    }
    let error = run(&["revoke"], &shell.env()).await.failure();
    assert!(error.contains("--user") && error.contains("--jti"), "{error}");
    let eve = [("ROOMLOG_URL", &*shell.url), ("ROOMLOG_TOKEN", &everything("eve"))];
    let error = run(&["revoke", "--user", "ann"], &eve).await.failure();
    assert!(error.contains("`manage` on `*`"), "{error}");
}

/// Runs the script of `make install` on the program under test.
fn install(prefix: &std::path::Path) -> std::process::Output {
    let mut script = std::process::Command::new(crate::harness::path("scripts/install.sh"));
    script.arg(crate::harness::program("roomlog")).env("PREFIX", prefix).output().unwrap()
}

#[tokio::test]
async fn the_program_is_installed_with_its_manual_and_completions() {
    let prefix = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = install(prefix.path());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("is not on your PATH"), "{output:?}");
    }
    let read = |file: &str| std::fs::read_to_string(prefix.path().join(file)).unwrap();
    let version =
        std::process::Command::new(prefix.path().join("bin/roomlog")).arg("--version").output().unwrap();
    assert!(version.status.success(), "{version:?}");
    assert!(read("share/man/man1/roomlog.1").contains(r"roomlog\-serve(1)"));
    assert!(read("share/man/man1/roomlog-tail.1").contains("durable"));
    assert!(read("share/bash-completion/completions/roomlog").contains("complete -F _roomlog"));
    assert!(read("share/zsh/site-functions/_roomlog").starts_with("#compdef roomlog"));
    assert!(read("share/fish/vendor_completions.d/roomlog.fish").contains("complete -c roomlog"));
    let bash = std::process::Command::new("bash")
        .arg("-c")
        .arg("source \"$0\" && COMP_WORDS=(roomlog subs) COMP_CWORD=1 && _roomlog roomlog subs roomlog && echo \"${COMPREPLY[@]}\"")
        .arg(prefix.path().join("share/bash-completion/completions/roomlog"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "subscriptions", "{bash:?}");
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
async fn the_configuration_is_printed() {
    let output = run(&["config"], &[]).await.success();
    assert!(output.contains("[server]") && output.contains("max_message"), "{output}");
    assert!(!output.contains(crate::harness::SECRET), "secrets are not printed");
}
