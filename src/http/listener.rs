//! Accepts connections. Replaces `axum::serve`, which waits for a request's header without a limit.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::admission::{Admission, Place};
use crate::net::certificates::Certificates;
use crate::net::stream::{Socket, Stream};

/// Time within which a client must send the header of its first request.
const FIRST_HEADER_WITHIN: Duration = Duration::from_secs(10);

/// Time for which a connection is kept open for another request. Longer than proxies keep theirs (nginx:
/// 60 s). A proxy that reuses a connection just as it is closed gets an error, for a request that may not be
/// safe to repeat.
const NEXT_HEADER_WITHIN: Duration = Duration::from_secs(65);

/// Most bytes of a request's header, and size of hyper's read buffer.
const BUFFER: usize = 16 * 1024;

/// Time for requests to complete during shutdown, unless the grace time is shorter. None waits longer than
/// this for Redis.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Timing of the probes that detect a dead, silent client.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Time for which a client may acknowledge none of the bytes sent to it.
const NOTHING_TAKEN: Duration = Duration::from_secs(300);

/// Connections that may wait to be accepted. When all clients of a node reconnect at once, the excess is
/// dropped, and retries only after a second.
const BACKLOG: u32 = 4096;

/// Pause after a failed accept, as when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "{0} is in use by another program; stop that one, or choose another address with --listen (server.listen)"
    )]
    InUse(SocketAddr),
    #[error("cannot listen on {0}: {1}; choose another address with --listen (server.listen)")]
    Other(SocketAddr, std::io::Error),
}

pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    listen(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Other(address, error),
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server can take its port immediately.
    socket.set_reuseaddr(true)?;
    // Each connection inherits the following options.
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(NOTHING_TAKEN))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then lets requests in progress complete for at most `grace`, and cuts the rest. It
/// does not wait for upgraded connections. Uses TLS if there are certificates.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    admission: Arc<Admission>,
    certificates: Option<Arc<Certificates>>,
    stop: CancellationToken,
    grace: Duration,
) {
    let connections = TaskTracker::new();
    let service = TowerToHyperService::new(router);
    loop {
        let accepted = async {
            admission.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((socket, _peer)) => {
                let service = Placed { service: service.clone(), place: admission.enter() };
                let tls = certificates.as_ref().map(|certificates| certificates.current());
                let (stop, last) = (stop.clone(), grace.min(LAST_REQUESTS));
                connections.spawn(connection(socket, tls, service, stop, last));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection. After `stop`, a request in progress has the time `last`.
async fn connection(
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    service: Placed,
    stop: CancellationToken,
    last: Duration,
) {
    let place = service.place.clone();
    let socket = match tls {
        None => Either::Left(socket),
        Some(tls) => tokio::select! {
            secured = handshake(socket, tls) => match secured {
                Some(secured) => secured,
                None => return,
            },
            () = place.was_cut() => return,
            () = stop.cancelled() => return,
        },
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(HeaderTimer::default())
        .header_read_timeout(NEXT_HEADER_WITHIN)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Stream::new(socket, place.clone())), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = place.was_cut() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = place.was_cut() => return,
                () = tokio::time::sleep(last) => {
                    tracing::debug!("the shutdown cut off a request");
                    return place.cut();
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection failed");
    }
}

async fn handshake(socket: TcpStream, tls: Arc<ServerConfig>) -> Option<Socket> {
    match timeout(FIRST_HEADER_WITHIN, TlsAcceptor::from(tls).accept(socket)).await {
        Ok(Ok(secured)) => Some(Either::Right(Box::new(secured))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_elapsed) => None,
    }
}

struct Placed {
    service: TowerToHyperService<Router>,
    place: Arc<Place>,
}

impl Service<Request<Incoming>> for Placed {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.place.clone());
        self.service.call(request)
    }
}

/// hyper's timer for the headers of one connection. hyper has one limit for all headers, and this timer
/// shortens it for the first.
#[derive(Default)]
struct HeaderTimer {
    is_past_the_first: AtomicBool,
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let is_past_the_first = self.is_past_the_first.swap(true, Ordering::Relaxed);
        let sooner =
            if is_past_the_first { Duration::ZERO } else { NEXT_HEADER_WITHIN - FIRST_HEADER_WITHIN };
        TokioTimer::new().sleep_until(deadline - sooner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use metrics::Gauge;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::Config;
    use crate::net::admission::Places;
    use crate::telemetry::Metrics;

    async fn closes_after(bytes: &str) -> u64 {
        let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
        let metrics = Arc::new(Metrics::new(&config.rooms));
        let admission = Admission::new(Places::FEW, Gauge::noop(), metrics);
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        let (stop, grace) = (CancellationToken::new(), Duration::ZERO);
        tokio::spawn(serve(listener, Router::new(), admission, None, stop, grace));
        let started = tokio::time::Instant::now();
        let _ = client.read_to_end(&mut Vec::new()).await; // It may be reset.
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_send_its_header_is_disconnected() {
        let seconds = closes_after("GET / HTTP/1.1\r\nHost").await;
        assert!((9..=10).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_stays_open_for_longer_than_proxies_reuse_theirs() {
        let seconds = closes_after("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!((64..=65).contains(&seconds), "{seconds}");
    }
}
