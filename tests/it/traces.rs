//! Traces, as a collector gets them by OTLP over HTTP; and logs, which hold no content.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::harness::{Client, Redis, Rest, Server, eventually, everything};

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector that keeps what it gets.
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
async fn a_message_is_followed_over_both_nodes_under_its_key() {
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
    // What is left is sent at the end.
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
async fn what_is_not_sampled_is_not_sent_and_a_collector_that_is_away_hurts_nobody() {
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

#[tokio::test]
async fn lines_of_the_log_name_the_request_that_they_come_of_and_hold_no_content() {
    let redis = Redis::start().await;
    // No address is told as text then: the test knows it.
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    let env = [
        ("ROOMLOG_REDIS__URL", &*redis.url()),
        ("ROOMLOG_LOG__FORMAT", "json"),
        ("ROOMLOG_LOG__LEVEL", "debug"),
    ];
    let server = Server::listen(&address, &[], &env).await;
    let token = everything("ann");
    let rest = Rest::new(&server, &token);
    let ask = |id: &'static str| {
        let path = "/v1/rooms/room/messages";
        rest.request(reqwest::Method::GET, path).header("X-Request-Id", id).send()
    };
    assert_eq!(ask("mine-1").await.unwrap().headers()["x-request-id"], "mine-1");
    let made = ask("no id, since it has spaces").await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 32);
    rest.post("/v1/rooms/room/messages", &json!({ "data": "nobody may see this" })).await.with(201);
    redis.pause();
    assert_eq!(ask("mine-2").await.unwrap().status().as_u16(), 503);
    redis.resume();
    let log = server.log();
    let lines: Vec<serde_json::Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed =
        lines.iter().find(|line| line["message"] == "Redis failed a command" && line["command"] == "head");
    assert_eq!(failed.unwrap()["span"]["id"], "mine-2", "{log:#?}");
    let all = log.concat();
    assert!(!all.contains("nobody may see this") && !all.contains(&token));
}
