//! `roomlog serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use metrics::Gauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{ConfigArgs, Failed, RedisArgs, dev, files, program, tour};
use crate::config::Config;
use crate::http::{self, App, Origins, listener};
use crate::net::admission::{Admission, Places};
use crate::net::certificates::Certificates;
use crate::node::Node;
use crate::telemetry::logs;

/// Runs the server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roomlog serve --dev
  roomlog serve --config /etc/roomlog.toml
  roomlog serve --redis-url redis://10.0.0.5:6379 --listen 0.0.0.0:8080")]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address and port to listen on (server.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    #[command(flatten)]
    redis: RedisArgs,
    /// Origin of web pages that may connect, such as https://app.example.com; repeatable
    /// (server.allowed_origins)
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Development mode: accepts connections from this machine only, including pages of its other servers,
    /// makes a secret that it keeps in the data directory, and prints a token
    #[arg(long)]
    dev: bool,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "--dev is for connections from this machine only, and {0} is open to others; omit --dev, and set a key for tokens (auth.hs256_secret)"
)]
struct NotLoopback(SocketAddr);

#[derive(Debug, thiserror::Error)]
#[error(
    "no key for tokens is configured. To try things out, use --dev. Otherwise set one of auth.hs256_secret, \
     auth.public_key_file, auth.jwks_file, auth.jwks_url; for the first: \
     ROOMLOG_AUTH__HS256_SECRET=$(openssl rand -hex 32)"
)]
struct NoKeys;

impl Serve {
    pub(super) fn run(self) -> Result<(), Failed> {
        let config = self.load()?;
        let _guard = logs::start(&config.log);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(config, self.dev))
    }

    fn load(&self) -> Result<Config, Failed> {
        let mut overrides = self.redis.overrides();
        if let Some(listen) = &self.listen {
            overrides.push(("server.listen".to_owned(), toml::Value::String(listen.clone())));
        }
        if !self.allow_origin.is_empty() {
            let origins = self.allow_origin.iter().cloned().map(toml::Value::String).collect();
            overrides.push(("server.allowed_origins".to_owned(), toml::Value::Array(origins)));
        }
        let mut config = self.config.load(overrides)?;
        if self.dev {
            if !config.server.listen.ip().is_loopback() {
                return Err(NotLoopback(config.server.listen).into());
            }
            if config.auth.hs256_secret.is_none() {
                config.auth.hs256_secret = Some(dev::secret(&config.embedded.data_dir)?);
            }
        } else if !config.auth.is_configured() {
            return Err(NoKeys.into());
        }
        Ok(config)
    }
}

async fn serve(mut config: Config, dev: bool) -> Result<(), Failed> {
    let files = files::raise();
    let places = Places::new(config.limits.connections, files);
    if places.clients < config.limits.connections {
        tracing::warn!(
            "limits.connections is {}, and {files} open files are enough for {}; raise the limit with LimitNOFILE= or ulimit -n",
            config.limits.connections,
            places.clients
        );
        config.limits.connections = places.clients;
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let certificates = match (&config.server.tls_cert, &config.server.tls_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(Certificates::load(certificate, key)?)),
        _ => None,
    };
    let scheme = if certificates.is_some() { "https" } else { "http" };
    // Before Redis is started: a port that is in use is the more common mistake.
    let listener = listener::bind(config.server.listen)?;
    let metrics_listener = match config.server.metrics_listen {
        Some(address) => Some(listener::bind(address)?),
        None => None,
    };
    let node = tokio::select! {
        node = Node::start(&config) => node?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let (grace, metrics) = (config.server.shutdown_grace, node.shared.metrics.clone());
    let app = App {
        shared: node.shared.clone(),
        health: node.health.clone(),
        origins: Origins { listed: config.server.allowed_origins.clone(), loopback: dev }.into(),
        metrics_apart: metrics_listener.is_some(),
        dev_tokens: dev.then(|| Arc::new(config.auth.clone())),
    };
    let admission = Admission::new(places, metrics.sockets.clone(), metrics.clone());
    if let Some(certificates) = &certificates {
        tokio::spawn(certificates.clone().watch(stop.clone()));
    }
    if dev && let Err(error) = tour::publish(&node.shared.services, &program()).await {
        tracing::warn!("the tour in chat.general could not be stored: {error}");
    }
    let (router, draining) = (http::router(app.clone()), node.shared.draining.clone());
    let serving = tokio::spawn(listener::serve(listener, router, admission, certificates, draining, grace));
    if let Some(listener) = metrics_listener {
        tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
        let few = Admission::new(Places::FEW, Gauge::noop(), metrics);
        tokio::spawn(listener::serve(listener, http::metrics_router(app), few, None, stop.clone(), grace));
    }
    let url = format!("{scheme}://{address}");
    tracing::info!("listening on {url}");
    if dev {
        dev::welcome(&config, &url)?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down; a second signal stops the server at once");
    let ended = async {
        node.shut_down().await;
        stop.cancel();
        let _ = serving.await;
    };
    tokio::select! {
        () = ended => tracing::info!("stopped"),
        _ = terminate.recv() => return Err(EndedAtOnce.into()),
        _ = interrupt.recv() => return Err(EndedAtOnce.into()),
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("stopped by a second signal; unconfirmed messages may be lost")]
struct EndedAtOnce;
