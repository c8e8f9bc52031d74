//! Accepting connections. By hand instead of `axum::serve`, which waits for a request's header without end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time in which a client must send a request's header; on a connection that is kept open, from the answer before. Longer than
/// proxies keep theirs (nginx: 60 s): who reuses a connection that is just being closed gets an error for a request that may not
/// be sent again.
const HEADER_WITHIN: Duration = Duration::from_secs(65);

/// Connections that may wait to be accepted. When all clients of a node come back at once, those beyond are dropped, and try
/// again only after a second.
const BACKLOG: u32 = 4096;

/// Pause after accepting failed, which it does while the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something listens there already.
    #[error(
        "{0} is in use by another program; stop that one, or choose another address with --listen (server.listen)"
    )]
    InUse(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}; choose another address with --listen (server.listen)")]
    Other(SocketAddr, std::io::Error),
}

/// Starts to listen.
///
/// # Errors
/// If the address is in use, or not this machine's.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    listen(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Other(address, error),
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again takes its port at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then lets requests that are under way end, for as long as `grace`; what is left then is cut.
/// Upgraded connections are not among them.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Duration) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let serving = connection(stream, router.clone(), stop.clone());
                connections.spawn(cut.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(requests = connections.len(), "the grace time is over; these are cut");
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let _slower_at_worst = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection broke");
    }
}
