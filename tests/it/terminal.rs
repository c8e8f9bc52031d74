//! The command line as a person at a terminal sees it.

use serde_json::json;

use crate::harness::{Client, Redis, Server, Terminal, admin, everything, redis_and_server, token};

async fn start() -> (Redis, Server, [(&'static str, String); 2]) {
    let (redis, server) = redis_and_server().await;
    let env = [("ROOMLOG_URL", server.url()), ("ROOMLOG_TOKEN", admin())];
    (redis, server, env)
}

fn open(args: &[&str], env: &[(&str, String)]) -> Terminal {
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Terminal::start(args, &env)
}

#[tokio::test]
async fn a_tail_says_what_it_follows_and_how_to_stop() {
    let (_redis, server, env) = start().await;
    let tail = open(&["tail", "chat.general"], &env);
    let said = tail.shows("Ctrl-C stops.").await;
    assert!(said.contains("Following chat.general as admin, from now on. Ctrl-C stops."), "{said}");
    Client::connect(&server, &everything("ann")).await.publish("chat.general", json!("hello")).await;
    tail.shows("ann       hello").await;
    tail.interrupt();
    let (status, said) = tail.ended().await;
    assert!(status.success(), "{said}");
}

#[tokio::test]
async fn text_that_looks_like_json_is_stored_with_a_hint() {
    let (_redis, _server, env) = start().await;
    let (status, said) = open(&["publish", "room", "{text: hello}"], &env).ended().await;
    assert!(status.success() && said.contains("stored as text") && said.contains("single quotes"), "{said}");
    let (_, said) = open(&["publish", "room", "hello {you}"], &env).ended().await;
    assert!(!said.contains("stored as text"), "{said}");
    let mut lines = open(&["publish", "lines", "-"], &env);
    lines.types("[1]\n[2\n\u{4}");
    let (status, said) = lines.ended().await;
    assert!(status.success() && said.contains("line 2 looks like JSON, but was stored as text"), "{said}");
    let (_, said) = open(&["history", "room"], &env).ended().await;
    assert!(said.contains("{text: hello}\n") && said.contains("hello {you}\n"), "{said}");
}

#[tokio::test]
async fn errors_are_wrapped_between_words() {
    let (_redis, _server, env) = start().await;
    let reader = token("eve", json!({ "room": ["read"] }));
    let cases: [(&[&str], &str, &str); 5] = [
        (&["publish", "room", "1"], &reader, "roomlog: forbidden: "),
        (&["history", "room"], "nonsense", "roomlog: unauthenticated: "),
        (&["tail", "a room"], &reader, "error: invalid value 'a room'"),
        (&["rooms", "--url", "nowhere"], &reader, "roomlog: \"nowhere\" is no address of a server"),
        (&["history", "room"], "a b", "roomlog: the token holds characters"),
    ];
    for (args, token, start) in cases {
        let env = [("ROOMLOG_URL", env[0].1.clone()), ("ROOMLOG_TOKEN", token.to_owned())];
        let (status, said) = open(args, &env).ended().await;
        assert!(!status.success() && said.starts_with(start), "{said}");
        assert!(said.lines().count() > 1, "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    }
}

#[tokio::test]
async fn deleting_asks_first() {
    let (_redis, _server, env) = start().await;
    open(&["publish", "room", "1"], &env).ended().await;
    for (answer, is_deleted) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let mut delete = open(&["delete", "room"], &env);
        let question = delete.shows("[y/N]").await;
        assert!(question.contains("1 message and 0 durable subscriptions"), "{question}");
        delete.types(answer);
        let (status, said) = delete.ended().await;
        assert_eq!(status.success(), is_deleted, "{said}");
        let outcome = if is_deleted { "deleted room room" } else { "nothing was deleted" };
        assert!(said.contains(outcome), "{said}");
    }
    let (_, said) = open(&["history", "room"], &env).ended().await;
    assert!(said.contains("no messages"), "{said}");
}

#[tokio::test]
async fn local_times_follow_the_time_zone() {
    let (_redis, _server, env) = start().await;
    open(&["publish", "room", "hello"], &env).ended().await;
    let [url, token] = env;
    // Zones without summer time, so that the difference is the same all year.
    for (zone, name) in [("XST-5:30", "XST"), ("YST+10", "YST")] {
        let env = [url.clone(), token.clone(), ("TZ", zone.to_owned())];
        let (_, local) = open(&["history", "room", "--local"], &env).ended().await;
        assert!(local.lines().next().unwrap().ends_with(&format!(" {name}")), "{local}");
        let (_, utc) = open(&["history", "room"], &env).ended().await;
        assert!(utc.lines().next().unwrap().ends_with(" UTC"), "{utc}");
        let minutes = |said: &str| {
            let clock: Vec<i64> =
                said.lines().nth(1).unwrap()[..5].split(':').map(|n| n.parse().unwrap()).collect();
            clock[0] * 60 + clock[1]
        };
        let difference = (minutes(&local) - minutes(&utc)).rem_euclid(24 * 60);
        assert_eq!(difference, if name == "XST" { 330 } else { 14 * 60 }, "{utc}\n{local}");
    }
    let (status, said) =
        open(&["rooms", "--long", "--local"], &[url, token, ("TZ", "Nowhere/City".into())]).ended().await;
    assert!(!status.success() && said.contains("TZ=Europe/Berlin"), "{said}");
}
