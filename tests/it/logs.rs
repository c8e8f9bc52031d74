//! The log: a node continues even if nobody reads its log lines.

use serde_json::json;

use crate::harness::{Client, DEADLINE, Redis, Rest, Server, everything, within};

#[tokio::test]
async fn a_node_works_even_if_nobody_reads_its_log() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_REDIS__URL", &*redis.url()), ("ROOMLOG_LOG", "trace")];
    let mut server = Server::unread(&env).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.join("room").await;
    let rest = Rest::anonymous(&server);
    let mut published = Vec::new();
    within(4 * DEADLINE, "lines are dropped", async || {
        published.extend(client.publish_many("room", 100, 10).await);
        rest.metric(r#"roomlog_full_queues_total{queue="log"}"#).await > 0.0
    })
    .await;
    published.extend(client.publish_many("room", 100, 10).await);
    assert_eq!(crate::harness::ids(&reader.messages(published.len()).await), published);
    client.ok(json!({ "op": "history", "room": "room", "after": "0" })).await;
    // The unread log does not delay the shutdown either.
    assert!(server.terminate().await.success());
}
