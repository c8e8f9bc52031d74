//! The deployment's own nginx configuration, run by a real nginx in front of two nodes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Client, Nginx, Rest, Server, admin, eventually, everything, ids, redis_and_servers, repository,
};

/// Starts nginx in front of two nodes, with the deployment's configuration, in which only addresses are
/// changed. Debian's nginx is too old to look up names again; `deploy/tests` has a newer one.
async fn nginx_before(one: &Server, two: &Server) -> Nginx {
    Nginx::start(|address, dir| {
        repository("deploy/nginx.conf")
            .replace(" resolve;", ";")
            .replace("roomlog-1:8080", &one.address.to_string())
            .replace("roomlog-2:8080", &two.address.to_string())
            .replace("listen 8080", &format!("listen {address}"))
            .replace("/tmp/nginx", dir.join("nginx").to_str().unwrap())
    })
    .await
}

#[tokio::test]
async fn two_nodes_behind_nginx_are_one_service() {
    let (_redis, [mut one, two]) = redis_and_servers().await;
    let nginx = nginx_before(&one, &two).await;
    let direct = one.address;
    one.behind(nginx.address);
    let rest = Rest::new(&one, &admin());
    assert_eq!(rest.get("/readyz").await.status, 200);
    assert_eq!(rest.get("/metrics").await.status, 404, "metrics are not for clients");

    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = Client::connect(&one, &everything(&format!("user.{n}"))).await;
        client.join("room").await;
        clients.push(client);
    }
    let mut events = rest.events("/v1/rooms/room/events", &[]).await.unwrap();
    let sent = clients[0].publish_many("room", 50, 100).await;
    for client in &mut clients {
        assert_eq!(ids(&client.messages(50).await), sent);
    }
    events.next().await;
    one.behind(direct);
    let connections = [
        Rest::anonymous(&one).connections("websocket").await,
        Rest::anonymous(&two).connections("websocket").await,
    ];
    assert_eq!(connections, [3, 3], "clients are spread, not stuck to one node");

    // A poll is held open for the requested time, and answered by the next message.
    let page = format!("/v1/rooms/room/messages?after={}&wait=30", sent[49]);
    let (page, id) = tokio::join!(rest.get(&page), async {
        eventually("the poll waits", async || {
            let polls = [
                Rest::anonymous(&one).connections("poll").await,
                Rest::anonymous(&two).connections("poll").await,
            ];
            polls.iter().sum::<usize>() == 1
        })
        .await;
        clients[0].publish("room", json!("late")).await
    });
    assert_eq!(page.with(200)["messages"][0]["id"], id);
}

#[tokio::test]
async fn clients_of_a_dead_node_reconnect_to_the_other() {
    let (_redis, [mut one, mut two]) = redis_and_servers().await;
    let nginx = nginx_before(&one, &two).await;
    two.kill();
    let direct = one.address;
    one.behind(nginx.address);
    for n in 0..4 {
        let mut client = Client::connect(&one, &everything(&format!("user.{n}"))).await;
        client.publish("room", json!(n)).await;
    }
    one.behind(direct);
    tokio::time::timeout(Duration::from_secs(30), one.terminate()).await.unwrap();
}
