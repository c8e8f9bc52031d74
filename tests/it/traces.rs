//! Traces, as a collector receives them by OTLP over HTTP, and logs, which contain no message content.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::harness::{Client, Redis, Rest, Server, Upgrade, eventually, everything};

type Spans = Arc<Mutex<Vec<Span>>>;

/// Starts a collector that keeps the spans it receives.
async fn collector() -> (String, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let spans = Spans::default();
    let kept = spans.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(BufReader::new(stream), kept.clone()));
        }
    });
    (url, spans)
}

async fn receive(mut stream: BufReader<TcpStream>, spans: Spans) -> Option<()> {
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
            let lower = line.to_ascii_lowercase();
            length =
                lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.lock().extend(scopes.flat_map(|scope| scope.spans));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
    }
}

#[tokio::test]
async fn a_message_is_traced_over_both_nodes_by_its_key() {
    let (url, spans) = collector().await;
    let redis = Redis::start().await;
    let env = [("ROOMLOG_TRACES__OTLP_URL", &*url), ("ROOMLOG_TRACES__SAMPLE", "1")];
    let (mut one, mut two) = (Server::with(&redis.url(), &env).await, Server::with(&redis.url(), &env).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut far = Client::connect(&two, &everything("bob")).await;
    far.join("room").await;
    let key = Uuid::new_v4();
    let secret = "nobody may see this";
    let publish = json!({ "op": "publish", "room": "room", "key": key.to_string(), "data": secret });
    writer.ok(publish).await;
    far.expect("message").await;
    // The remaining spans are sent at shutdown.
    one.terminate().await;
    two.terminate().await;
    let mut of_key = Vec::new();
    eventually("all spans came", async || {
        let spans = spans.lock();
        of_key = spans.iter().filter(|span| span.trace_id == key.as_bytes()).cloned().collect();
        of_key.len() == 3
    })
    .await;
    of_key.sort_by_key(|span| span.name.clone());
    let [append, deliver, publish] = &of_key[..] else { panic!("{of_key:?}") };
    let names = [append, deliver, publish].map(|span| span.name.as_str());
    assert_eq!(names, ["append", "deliver", "publish"]);
    assert!(publish.parent_span_id.is_empty());
    assert_eq!(append.parent_span_id, publish.span_id);
    assert_eq!(deliver.parent_span_id, publish.span_id);
    assert!(publish.start_time_unix_nano <= append.start_time_unix_nano);
    assert!(of_key.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    assert!(!format!("{:?}", spans.lock()).contains(secret), "no content leaves");
}

#[tokio::test]
async fn unsampled_messages_are_not_traced_and_a_missing_collector_does_no_harm() {
    let (url, spans) = collector().await;
    let redis = Redis::start().await;
    let nothing = [("ROOMLOG_TRACES__OTLP_URL", &*url), ("ROOMLOG_TRACES__SAMPLE", "0")];
    let away =
        [("ROOMLOG_TRACES__OTLP_URL", "http://127.0.0.1:1/v1/traces"), ("ROOMLOG_TRACES__SAMPLE", "1")];
    for env in [nothing, away] {
        let mut server = Server::with(&redis.url(), &env).await;
        let mut client = Client::connect(&server, &everything("ann")).await;
        client.publish_many("room", 100, 10).await;
        assert!(server.terminate().await.success());
    }
    assert!(spans.lock().is_empty());
}

/// Starts a Redis. Returns the URL for a user of its own, and the command that denies this user everything.
async fn deniable() -> (Redis, String, [&'static str; 5]) {
    let redis = Redis::on_port(&["--appendonly", "no"]).await;
    redis.ask(&["ACL", "SETUSER", "roomlog", "on", ">secret", "~*", "&*", "+@all"]);
    let url = format!("redis://roomlog:secret@127.0.0.1:{}", redis.port());
    (redis, url, ["ACL", "SETUSER", "roomlog", "-@all", "+ping"])
}

#[tokio::test]
async fn log_lines_name_their_request_or_session_and_have_no_content() {
    for level in ["debug,fred=off", "warn,roomlog::cli=info"] {
        let (redis, url, deny) = deniable().await;
        // The log does not have the address as plain text in these cases, so the test chooses it.
        let address = format!("127.0.0.1:{}", crate::harness::free_port());
        let env = [("ROOMLOG_REDIS__URL", &*url), ("ROOMLOG_LOG__FORMAT", "json"), ("ROOMLOG_LOG", level)];
        let server = Server::listen(&address, &[], &env).await;
        let token = everything("ann");
        let rest = Rest::new(&server, &token);
        let ask = |id: &'static str, path: &str| {
            let path = format!("/v1/rooms/room/{path}");
            rest.request(reqwest::Method::GET, &path).header("X-Request-Id", id).send()
        };
        assert_eq!(ask("mine-1", "messages").await.unwrap().headers()["x-request-id"], "mine-1");
        let made = ask("no id, since it has spaces", "messages").await.unwrap();
        assert_eq!(made.headers()["x-request-id"].len(), 32);
        rest.post("/v1/rooms/room/messages", &json!({ "data": "nobody may see this" })).await.with(201);

        // This node has nothing in memory of a room that another node wrote to.
        let other = Server::on(&url).await;
        let old = Client::connect(&other, &token).await.publish_many("old", 3, 10).await;
        let mut sessions = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
            let connected = client.ok(json!({ "op": "connect", "token": token })).await;
            sessions.push(connected["session"].as_str().unwrap().to_owned());
            clients.push(client);
        }
        let [asks, publishes, reads, leaves] = &mut clients[..] else { unreachable!() };
        asks.join("old").await;
        leaves.subscribe("room", json!({ "durable": "phone" })).await;

        redis.ask(&deny);
        for (id, path) in [("mine-2", "messages"), ("mine-3", "events?since=0")] {
            assert_eq!(ask(id, path).await.unwrap().status().as_u16(), 503);
        }
        assert_eq!(asks.error(json!({ "op": "history", "room": "old" })).await, "unavailable");
        let publish = json!({ "op": "publish", "room": "room", "data": "nobody may see this" });
        assert_eq!(publishes.error(publish).await, "unavailable");
        reads.subscribe("old", json!({ "since": old[0] })).await;
        leaves.ok(json!({ "op": "unsubscribe", "room": "room" })).await;

        let lines = || -> Vec<Value> {
            server.log().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let told = async |message: &str, span: &str, id: &str| {
            let mut found = Value::Null;
            eventually(&format!("`{message}` is told of {span} {id}"), async || {
                let named = |line: &Value| line["span"]["name"] == span && line["span"]["id"] == id;
                found = lines().into_iter().find(|line| line["message"] == message && named(line)).into();
                !found.is_null()
            })
            .await;
            found
        };
        let failed = "Redis failed a command";
        assert_eq!(told(failed, "request", "mine-2").await["command"], "head");
        let opened = told(failed, "request", "mine-3").await;
        assert!(opened["span"]["session"].as_str().unwrap().parse::<Uuid>().is_ok(), "{opened}");
        for session in [0, 2, 3] {
            told(failed, "session", &sessions[session]).await;
        }
        if level.starts_with("debug") {
            told("a publish was not confirmed", "session", &sessions[1]).await;
        }
        redis.ask(&["ACL", "SETUSER", "roomlog", "+@all"]);
        assert_eq!(reads.messages(2).await.len(), 2);
        let all = server.log().concat();
        assert!(!all.contains("nobody may see this") && !all.contains(&token));
    }
}
