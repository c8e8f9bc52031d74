//! How the client library is set up so that none of its defaults bites, and how one connection is opened.
//!
//! fred is only ever given one server: it knows nothing of clusters and sentinels here, since a redirection ends its task, and
//! a dead server delays the others. What is set here, and why, was measured; see "Redis client" in ARCHITECTURE.md.

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

use super::refusal::ConnectError;

/// Time in which a connection is open, or counts as failed.
const OPENING: Duration = Duration::from_secs(5);

/// How often to look whether a connection is open.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where Redis is and how to log in, from `redis.url`.
#[derive(Debug, Clone)]
pub struct Dial {
    config: Config,
    command_timeout: Duration,
}

impl Dial {
    /// Reads a URL.
    ///
    /// # Errors
    /// If it is none of the known forms.
    pub fn new(url: &str, command_timeout: Duration) -> Result<Self, ConnectError> {
        let config = Config::from_url(url).map_err(|error| ConnectError::new(&error, true))?;
        // RESP2 for commands: fred decodes pages of it in half of the time, which makes replay 1.6 times as fast.
        Ok(Self { config: Config { version: RespVersion::RESP2, ..config }, command_timeout })
    }

    /// What the URL names.
    pub fn target(&self) -> &ServerConfig {
        &self.config.server
    }

    /// Whether connections use TLS.
    pub fn tls(&self) -> bool {
        self.config.uses_tls()
    }

    /// After how long a command counts as lost.
    pub fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// A dial for servers of this kind with other credentials and no database, as sentinels have them.
    pub fn with_login(&self, username: Option<String>, password: Option<String>) -> Self {
        let config = Config { username, password, database: None, ..self.config.clone() };
        Self { config, command_timeout: self.command_timeout }
    }

    /// What makes clients of one server. Only such of RESP3 get messages.
    pub fn builder(&self, server: ServerConfig, version: RespVersion) -> Builder {
        let mut builder = Builder::from_config(Config { server, version, ..self.config.clone() });
        builder
            // The default is none: the client would be dead after the first disconnect.
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 1000, 2))
            .set_performance_config(PerformanceConfig {
                default_command_timeout: self.command_timeout,
                // The default of 32 loses messages at once.
                broadcast_channel_capacity: 16_384,
                ..PerformanceConfig::default()
            })
            .set_connection_config(ConnectionConfig {
                connection_timeout: Duration::from_secs(2),
                internal_command_timeout: Duration::from_secs(2),
                // More would send writes that were under way a second time after a reconnect.
                max_command_attempts: 1,
                // With a bound here, a full queue at a disconnect ends the client for good; our own bound stands before it.
                max_command_buffer_len: 0,
                unresponsive: UnresponsiveConfig {
                    max_timeout: Some(Duration::from_secs(5)),
                    interval: Duration::from_secs(1),
                },
                tcp: TcpConfig {
                    nodelay: Some(true),
                    keepalive: Some(TcpKeepalive::new().with_time(Duration::from_secs(3))),
                    // Without it a full socket buffer towards a silent server wedges the client.
                    user_timeout: Some(Duration::from_secs(3)),
                    ..TcpConfig::default()
                },
                ..ConnectionConfig::default()
            });
        builder
    }
}

/// One server as the client library names it.
pub fn one(server: &Server) -> ServerConfig {
    ServerConfig::Centralized { server: server.clone() }
}

/// An open connection. Its task ends with it.
pub struct Open {
    /// The client.
    pub client: Client,
    /// The client's task, which should never end.
    pub task: ConnectHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects.
///
/// # Errors
/// If the server refuses, or does not answer within 5 s. Then nothing is left behind.
pub async fn open(builder: &Builder) -> Result<Open, ConnectError> {
    let tls = builder.get_config().is_some_and(Config::uses_tls);
    let refused = |error| ConnectError::new(&error, tls);
    let client = builder.build().map_err(refused)?;
    // Not `init`, whose task lives on if it is not waited for.
    let mut open = Open { task: client.connect(), client };
    let connected = async {
        loop {
            tokio::select! {
                connected = open.client.wait_for_connect() => return connected,
                ended = &mut open.task => return ended.unwrap_or_else(|error| Err(error.into())),
                // fred looks at the state first and listens for changes then: one in between is not heard of.
                () = tokio::time::sleep(LOOK_AGAIN) => {}
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
        // An aborted task is gone at its next turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}
