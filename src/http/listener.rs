//! Accepting connections. By hand instead of `axum::serve`, which waits for a request's header without end.

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

/// Time in which a client must send the header of its first request.
const FIRST_HEADER_WITHIN: Duration = Duration::from_secs(10);

/// Time for which a connection is kept open for another request. Longer than proxies keep theirs (nginx: 60 s): who reuses a
/// connection that is just being closed gets an error for a request that may not be sent again.
const NEXT_HEADER_WITHIN: Duration = Duration::from_secs(65);

/// Most bytes of a request's header, and that hyper reads and keeps at once.
const BUFFER: usize = 16 * 1024;

/// Time that requests have to end when the server does, if the grace time is not shorter. None waits longer for Redis.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// When the system asks whether a silent client is still there.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Time for which a client may take nothing of what was sent to it.
const NOTHING_TAKEN: Duration = Duration::from_secs(300);

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
    // What follows holds for each connection too: they inherit it.
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(NOTHING_TAKEN))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then lets requests that are under way end, for as long as `grace`; what is left then is cut.
/// Upgraded connections are not among them. With certificates, it speaks TLS.
pub async fn serve(
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

/// Serves one connection. After `stop`, what is under way has so long.
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
                    tracing::debug!("a request is cut: the server ends");
                    return place.cut();
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection broke");
    }
}

/// A socket with TLS, if its client speaks that.
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

/// What answers the requests of one connection. Each knows the connection's place.
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

/// hyper's clock for the headers of one connection. hyper has one limit for all of them; the first gets the shorter one.
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
