//! Tests of the timers of connections, with a clock that tests move.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Config;

fn registry() -> Arc<Registry> {
    let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
    Arc::new(Registry::new(100, Arc::new(Metrics::new(&config.rooms))))
}

fn open(registry: &Arc<Registry>, claims: Option<Arc<Claims>>) -> ConnectionGuard {
    let queue = Arc::new(SendQueue::taken(1000, || ()));
    tokio::spawn(registry.clone().sweep(CancellationToken::new()));
    Registry::enter(registry, Transport::WebSocket, Encoding::Json, queue, claims).unwrap()
}

fn claims(expires: u64) -> Arc<Claims> {
    let user = "ann".parse().unwrap();
    Arc::new(Claims { user, expires, issued: None, jti: None, grants: Default::default() })
}

async fn end(connection: &Connection) -> (Option<CloseCode>, u64) {
    let opened = Instant::now();
    connection.ending.cancelled().await;
    (connection.farewell(), opened.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_connect_is_disconnected() {
    assert_eq!(end(&open(&registry(), None)).await, (Some(CloseCode::NoConnect), 10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_pings_is_disconnected() {
    let connection = open(&registry(), Some(claims(u64::MAX)));
    let mut pings = 0;
    let end = tokio::select! {
        end = end(&connection) => end,
        // The client reads, but does not answer.
        () = async { while !connection.queue.take(1).await.is_empty() { pings += 1 } } => unreachable!(),
    };
    assert_eq!((pings, end), (1, (Some(CloseCode::NoPong), 35)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_token() {
    let registry = registry();
    let connection = open(&registry, Some(claims(1)));
    assert_eq!(end(&connection).await, (Some(CloseCode::TokenExpired), 0));
    assert_eq!(connection.ended().await.unwrap_err().code, ErrorCode::TokenExpired);
    drop(connection);
    assert!(registry.is_empty());
}
