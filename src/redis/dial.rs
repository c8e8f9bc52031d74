//! The settings of the client library (its defaults are unsafe here), and the opening of one connection.
//!
//! fred is only ever given one server, and knows nothing of clusters and sentinels: there, a redirection ends
//! its task, and a dead server delays the others. All settings were measured; see "Redis client" in
//! ARCHITECTURE.md.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};
use fred::types::{Builder, ConnectHandle, RespVersion};
use socket2::TcpKeepalive;
use tokio::time::timeout;

use super::errors::ConnectError;

const OPENING: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub struct Dial {
    config: Config,
    command_timeout: Duration,
}

impl Dial {
    pub fn new(url: &str, command_timeout: Duration) -> Result<Self, ConnectError> {
        let config = Config::from_url(url).map_err(|error| ConnectError::new(&error, true))?;
        // RESP2 for commands: fred decodes pages of it in half the time, which makes replay 1.6 times as
        // fast.
        Ok(Self { config: Config { version: RespVersion::RESP2, ..config }, command_timeout })
    }

    pub fn target(&self) -> &ServerConfig {
        &self.config.server
    }

    pub fn tls(&self) -> bool {
        self.config.uses_tls()
    }

    pub fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Returns a `Dial` for servers of this kind with other credentials and no database, as sentinels need.
    pub fn with_login(&self, username: Option<String>, password: Option<String>) -> Self {
        let config = Config { username, password, database: None, ..self.config.clone() };
        Self { config, command_timeout: self.command_timeout }
    }

    /// Returns a builder of clients of one server. Only RESP3 clients receive pub/sub messages.
    pub fn builder(&self, server: ServerConfig, version: RespVersion) -> Builder {
        let mut builder = Builder::from_config(Config { server, version, ..self.config.clone() });
        builder
            // The default is none: the client would be dead after its first disconnect.
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 1000, 2))
            .set_performance_config(PerformanceConfig {
                default_command_timeout: self.command_timeout,
                // The default of 32 drops messages at once.
                broadcast_channel_capacity: 16_384,
                ..PerformanceConfig::default()
            })
            .set_connection_config(ConnectionConfig {
                connection_timeout: Duration::from_secs(2),
                internal_command_timeout: Duration::from_secs(2),
                // More attempts would resend writes that were in progress after a reconnect.
                max_command_attempts: 1,
                // With a bound here, a full queue at a disconnect ends the client for good. Callers are
                // bounded before this queue.
                max_command_buffer_len: 0,
                unresponsive: UnresponsiveConfig {
                    max_timeout: Some(Duration::from_secs(5)),
                    interval: Duration::from_secs(1),
                },
                tcp: TcpConfig {
                    nodelay: Some(true),
                    keepalive: Some(TcpKeepalive::new().with_time(Duration::from_secs(3))),
                    // Without it, a full socket buffer towards a silent server blocks the client for good.
                    user_timeout: Some(Duration::from_secs(3)),
                    ..TcpConfig::default()
                },
                ..ConnectionConfig::default()
            });
        builder
    }
}

pub(super) fn one(server: &Server) -> ServerConfig {
    ServerConfig::Centralized { server: server.clone() }
}

/// An open connection. Dropping it ends its task.
pub(super) struct Open {
    pub client: Client,
    /// The client's task, which never ends while the connection works.
    pub task: ConnectHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a connection.
///
/// # Errors
/// If the server refuses, or does not answer within 5 s. No task is left behind then.
pub(super) async fn open(builder: &Builder) -> Result<Open, ConnectError> {
    let tls = builder.get_config().is_some_and(Config::uses_tls);
    let refused = |error| ConnectError::new(&error, tls);
    let client = builder.build().map_err(refused)?;
    // Not `init`: its task outlives a dropped future.
    let mut open = Open { task: client.connect(), client };
    let connected = async {
        loop {
            tokio::select! {
                connected = open.client.wait_for_connect() => return connected,
                ended = &mut open.task => return ended.unwrap_or_else(|error| Err(error.into())),
                // fred checks the state before it listens for changes, and misses a change in between.
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    };
    match timeout(OPENING, connected).await {
        Ok(Ok(())) => Ok(open),
        Ok(Err(error)) => Err(refused(error)),
        Err(_elapsed) => Err(ConnectError::silent(tls)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_fails_leaves_no_task() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        let dial = Dial::new(&url, Duration::from_secs(1)).unwrap();
        let builder = dial.builder(dial.target().clone(), RespVersion::RESP2);
        assert!(open(&builder).await.is_err(), "nobody answers");
        drop(silent);
        assert!(open(&builder).await.is_err(), "nobody listens");
        // An aborted task ends when it is next polled.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}
