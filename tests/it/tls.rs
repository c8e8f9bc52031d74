//! The server's own TLS: every use by clients, and changes of the certificate.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use reqwest::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{
    Authority, Client, Redis, Rest, Server, admin, eventually, everything, run, soon, spawn, within,
};

/// Starts a server with a certificate of this authority for `localhost`.
async fn start(redis: &Redis, files: &[String; 2]) -> Server {
    let env = [("ROOMLOG_SERVER__TLS_CERT", &*files[0]), ("ROOMLOG_SERVER__TLS_KEY", &*files[1])];
    Server::with(&redis.url(), &env).await
}

fn trusting(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Opens a connection that trusts this authority, with a small receive buffer.
async fn secure(server: &Server, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let socket = socket.connect(server.address).await?;
    soon("a handshake", TlsConnector::from(config).connect("localhost".try_into().unwrap(), socket)).await
}

/// Returns the certificate that a server presents.
async fn shown(server: &Server, authority: &Authority) -> Option<CertificateDer<'static>> {
    let stream = secure(server, trusting(authority, rustls::ALL_VERSIONS)).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
}

struct Socket(WebSocketStream<TlsStream<TcpStream>>);

impl Socket {
    async fn connect(server: &Server, config: Arc<ClientConfig>, token: &str) -> Self {
        let stream = secure(server, config).await.unwrap();
        let (socket, _) = client_async("wss://localhost/v1/ws", stream).await.unwrap();
        let mut socket = Self(socket);
        socket.send(json!({ "op": "connect", "ref": 0, "token": token })).await;
        socket
    }

    async fn send(&mut self, frame: Value) {
        soon("a frame is sent", self.0.send(Message::text(frame.to_string()))).await.unwrap();
    }

    /// Returns the frames of the next message. Empty at the end.
    async fn next(&mut self) -> Vec<Value> {
        loop {
            match soon("a frame", self.0.next()).await {
                Some(Ok(Message::Text(text))) => {
                    return match serde_json::from_str(&text).unwrap() {
                        Value::Array(frames) => frames,
                        frame => vec![frame],
                    };
                }
                Some(Ok(Message::Close(_))) | None => return Vec::new(),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads up to a frame with this `op`.
    async fn until(&mut self, op: &str) -> Vec<Value> {
        let mut all = Vec::new();
        while !all.last().is_some_and(|frame: &Value| frame["op"] == op) {
            let frames = self.next().await;
            assert!(!frames.is_empty(), "no {op} after {all:?}");
            all.extend(frames);
        }
        all
    }
}

#[tokio::test]
async fn all_transports_work_over_tls() {
    let (redis, authority) = (Redis::start().await, Authority::new());
    let server = start(&redis, &authority.issue(&["localhost"])).await;
    let root = Certificate::from_pem(&std::fs::read(authority.file()).unwrap()).unwrap();
    let rest = Rest::trusting(&format!("https://localhost:{}", server.address.port()), root, &admin());
    let mut events = rest.events("/v1/rooms/room/events?since=0", &[]).await.unwrap();

    // More than fits into the socket buffers of a slow reader, in both versions of TLS.
    const MESSAGES: usize = 3000;
    let text = "x".repeat(2000);
    for start in (0..MESSAGES).step_by(500) {
        let batch: Vec<Value> =
            (start..start + 500).map(|n| json!({ "room": "room", "data": [n, text] })).collect();
        rest.post("/v1/messages", &batch.into()).await.with(200);
    }
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut socket = Socket::connect(&server, trusting(&authority, versions), &everything("ann")).await;
        socket.until("ok").await;
        socket.send(json!({ "op": "subscribe", "room": "room", "since": "0" })).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let frames = socket.until("live").await;
        let numbers: Vec<usize> = frames
            .iter()
            .filter(|frame| frame["op"] == "message")
            .map(|frame| frame["data"][0].as_u64().unwrap() as usize)
            .collect();
        assert!(numbers.into_iter().eq(0..MESSAGES));
        // A large incoming message, in one frame of many records.
        let large = json!({ "op": "ping", "ref": 7, "x": "y".repeat(900_000) });
        socket.send(large).await;
        assert_eq!(socket.until("pong").await.last().unwrap()["ref"], 7);
        socket.0.close(None).await.unwrap();
        assert!(socket.next().await.is_empty());
    }
    let events = events.take(MESSAGES).await;
    assert!(events.iter().enumerate().all(|(n, event)| event.data["data"][0] == n));

    // The commands, and the health check of a container.
    let url = format!("https://localhost:{}", server.address.port());
    let token = everything("ann");
    let env = [("ROOMLOG_URL", &*url), ("ROOMLOG_TOKEN", &*token), ("SSL_CERT_FILE", &*authority.file())];
    let tail = spawn(&["tail", "new"], &env);
    eventually("a message is followed", async || {
        run(&["publish", "new", "hello"], &env).await.success();
        !tail.lines(0).await.is_empty()
    })
    .await;
    drop(tail);
    let listen = server.address.to_string();
    let env = [
        ("ROOMLOG_SERVER__LISTEN", &*listen),
        ("ROOMLOG_SERVER__TLS_CERT", "a"),
        ("ROOMLOG_SERVER__TLS_KEY", "b"),
    ];
    let ready = run(&["doctor", "--ready"], &env).await.success();
    assert!(["ready; Redis ", "ready; Valkey "].iter().any(|start| ready.starts_with(start)), "{ready}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_at_shutdown() {
    let (redis, authority) = (Redis::start().await, Authority::new());
    let mut server = start(&redis, &authority.issue(&["localhost"])).await;
    let config = trusting(&authority, rustls::ALL_VERSIONS);
    let mut reading = Socket::connect(&server, config.clone(), &everything("ann")).await;
    let mut silent = Socket::connect(&server, config, &everything("bob")).await;
    reading.until("ok").await;
    silent.until("ok").await;
    silent.send(json!({ "op": "subscribe", "room": "room" })).await;
    silent.until("live").await;
    let frames: Vec<Value> = (0..500)
        .map(|n| json!({ "op": "publish", "room": "room", "data": "x".repeat(1000), "ref": n }))
        .collect();
    for _ in 0..10 {
        reading.send(frames.clone().into()).await;
        let mut answers = 0;
        while answers < 500 {
            let frames = reading.next().await;
            assert!(!frames.is_empty(), "closed");
            answers += frames.len();
        }
    }
    server.signal(Signal::SIGTERM);
    let goodbye = reading.until("goodbye").await;
    assert_eq!(goodbye.last().unwrap()["code"], "restarting");
    assert!(reading.next().await.is_empty());
    assert!(server.ended().await.success());
    drop(silent);
}

#[tokio::test]
async fn a_changed_certificate_is_reloaded_unless_it_is_invalid() {
    let (redis, authority, other) = (Redis::start().await, Authority::new(), Authority::new());
    let files = authority.issue(&["localhost"]);
    let server = start(&redis, &files).await;
    let mut old =
        Socket::connect(&server, trusting(&authority, rustls::ALL_VERSIONS), &everything("ann")).await;
    old.until("ok").await;
    let first = shown(&server, &authority).await.unwrap();
    authority.issue(&["localhost"]);
    within(Duration::from_secs(20), "the new one is shown", async || {
        shown(&server, &authority).await.is_some_and(|now| now != first)
    })
    .await;
    let second = shown(&server, &authority).await.unwrap();

    // The key of another pair, and then no key at all: each is logged once.
    let warnings =
        || server.log().iter().filter(|line| line.contains("new certificate cannot be used")).count();
    let [_, key] = other.issue(&["localhost"]);
    for (count, bad) in [(1, std::fs::read_to_string(key).unwrap()), (2, "no key".to_owned())] {
        std::fs::write(&files[1], bad).unwrap();
        within(Duration::from_secs(20), "it is said", async || warnings() == count).await;
        assert_eq!(shown(&server, &authority).await.as_ref(), Some(&second));
    }
    authority.issue(&["localhost"]);
    within(Duration::from_secs(20), "a good one is shown again", async || {
        shown(&server, &authority).await.is_some_and(|now| now != second)
    })
    .await;
    assert_eq!(warnings(), 2);
    old.send(json!({ "op": "ping", "ref": 1 })).await;
    old.until("pong").await;
}

#[tokio::test]
async fn certificate_errors_at_startup_are_reported() {
    let (authority, other) = (Authority::new(), Authority::new());
    let [certificate, key] = authority.issue(&["localhost"]);
    let [_, wrong] = other.issue(&["localhost"]);
    for (certificate, key, said) in [
        (&*certificate, &*wrong, "server.tls_cert and server.tls_key cannot be used together"),
        (&*certificate, "/nowhere.key", "server.tls_key: /nowhere.key: No such file"),
        (&*key, &*key, "no certificate is in it"),
        (&*certificate, &*certificate, "no private key is in it"),
        (&*certificate, "", "`server.tls_key`: must be given with server.tls_cert"),
        ("", &*key, "`server.tls_cert`: must be given with server.tls_key"),
    ] {
        let env = [("ROOMLOG_SERVER__TLS_CERT", certificate), ("ROOMLOG_SERVER__TLS_KEY", key)];
        let failed = run(&["serve", "--listen", "127.0.0.1:0"], &env).await.failure();
        assert!(failed.contains(said), "{said:?} is not in {failed}");
    }
}

#[tokio::test]
async fn clients_without_tls_or_trust_get_nothing_and_do_no_harm() {
    let (redis, authority) = (Redis::start().await, Authority::new());
    let server = start(&redis, &authority.issue(&["localhost"])).await;
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(plain.get(format!("http://{}/healthz", server.address)).send().await.is_err());
    assert!(shown(&server, &Authority::new()).await.is_none());
    let silent = TcpStream::connect(server.address).await.unwrap();
    assert!(shown(&server, &authority).await.is_some());
    drop(silent);
    // Without TLS, or with a proxy that terminates it, nothing changes.
    let open = Server::on(&redis.url()).await;
    Client::connect(&open, &everything("ann")).await.settled().await;
}
