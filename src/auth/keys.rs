//! The keys that verify tokens: those in the configuration, and those of a JWK set at a URL. The set is
//! refreshed periodically, and as soon as a token names an unknown key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use crate::config::{Algorithm, AuthConfig, SecretUrl};
use crate::telemetry::{Metrics, Success};
use crate::util::tls;

use super::jwk::{Key, Source, read_set};
use super::lookups::{Lookups, Step};

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest JWK set, in bytes.
const MAX_SET: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(
        "no key to verify tokens with: set auth.hs256_secret (`openssl rand -hex 32` makes one), \
         auth.public_key_file, auth.jwks_file or auth.jwks_url"
    )]
    NoKeys,
    #[error("{key}: {}: {source}", path.display())]
    Unreadable { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{key}: {place} {problem}")]
    Unusable {
        key: &'static str,
        /// The file or URL, without secrets.
        place: String,
        problem: String,
    },
    #[error("auth.jwks_url: {url}: {problem}")]
    Unreachable {
        /// The URL, without secrets.
        url: String,
        problem: String,
    },
    /// A token cannot be made without `auth.hs256_secret`, or its claims cannot be encoded.
    #[error("a token cannot be made: {0}")]
    Mint(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    No,
    Unknown(Duration),
}

/// All keys. [`refresh_loop`](Self::refresh_loop) keeps those of the URL up to date.
pub(crate) struct KeySet {
    fixed: Vec<Key>,
    remote: Option<Arc<Remote>>,
}

struct Remote {
    url: SecretUrl,
    client: reqwest::Client,
    config: AuthConfig,
    /// The keys of the last valid response. All of them are accepted, so that a new key can be published
    /// before it is used.
    keys: RwLock<Arc<[Key]>>,
    /// Early refreshes. The lock is held during each, so that only one runs at a time.
    lookups: Arc<Mutex<Lookups>>,
    metrics: Arc<Metrics>,
}

impl KeySet {
    pub(crate) async fn load(config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
        if !config.is_configured() {
            return Err(AuthError::NoKeys);
        }
        let mut fixed: Vec<Key> = config.hs256_secret.iter().map(Key::secret).collect();
        if let Some(path) = &config.public_key_file {
            fixed.push(read_pem(path, config).await?);
        }
        if let Some(path) = &config.jwks_file {
            fixed.extend(read_jwks(path, config).await?);
        }
        let remote = match &config.jwks_url {
            Some(url) => Some(Arc::new(Remote::connect(url.clone(), config, metrics).await?)),
            None => None,
        };
        Ok(Self { fixed, remote })
    }

    pub(crate) async fn refresh_loop(self: Arc<Self>, cancelled: CancellationToken) {
        let Some(remote) = &self.remote else { return };
        let refresh = async {
            loop {
                tokio::time::sleep(remote.config.jwks_refresh).await;
                remote.refresh().await;
            }
        };
        cancelled.run_until_cancelled(refresh).await;
    }

    /// Returns the keys that may verify a token: those with its algorithm, and with its key id if both have
    /// one.
    pub(super) fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<Key> {
        let remote = self.remote.as_ref().map(|remote| remote.keys.read().clone());
        let fits = |key: &&Key| {
            let same_id = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            key.algorithm == algorithm && same_id
        };
        self.fixed.iter().chain(remote.iter().flat_map(|keys| keys.iter())).filter(fits).cloned().collect()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        let fixed = self.fixed.iter().any(|key| key.id.as_deref() == Some(id));
        fixed || self.remote.as_ref().is_some_and(|remote| remote.has(id))
    }

    /// Looks up an unknown key id, with an early refresh of the JWK set if needed.
    pub(super) async fn find(&self, id: &str) -> Found {
        match &self.remote {
            Some(remote) => remote.find(id).await,
            None => Found::No,
        }
    }
}

impl Remote {
    async fn connect(url: SecretUrl, config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
        tls::install_provider();
        let https = url.expose().starts_with("https:");
        let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).https_only(https).build();
        let client = client.map_err(|error| unreachable(&url, &error))?;
        let (config, keys) = (config.clone(), RwLock::new([].into()));
        let lookups = Arc::new(Mutex::new(Lookups::new()));
        let remote = Self { url, client, config, keys, lookups, metrics };
        *remote.keys.write() = remote.fetch().await?;
        Ok(remote)
    }

    fn has(&self, id: &str) -> bool {
        self.keys.read().iter().any(|key| key.id.as_deref() == Some(id))
    }

    async fn find(self: &Arc<Self>, id: &str) -> Found {
        let asked = Instant::now();
        loop {
            let mut lookups = Arc::clone(&self.lookups).lock_owned().await;
            if self.has(id) {
                return Found::Yes;
            }
            match lookups.step(id, asked, Instant::now()) {
                Step::Absent => return Found::No,
                Step::Unknown(wait) => return Found::Unknown(wait),
                Step::Refresh => {}
            }
            let remote = Arc::clone(self);
            // Runs in a task, with a time limit, so that a disconnecting client does not cancel the refresh
            // for the others.
            let refresh = async move {
                let began = Instant::now();
                let succeeded = remote.refresh().await;
                lookups.refreshed(began, Instant::now(), succeeded);
            };
            if let Err(error) = tokio::spawn(refresh.in_current_span()).await {
                warn!(%error, "the early refresh of the JWK set was aborted");
            }
        }
    }

    /// Refreshes the keys. Returns whether the set was read.
    async fn refresh(&self) -> bool {
        match self.fetch().await {
            Ok(keys) => {
                info!(keys = keys.len(), "read the JWK set");
                *self.keys.write() = keys;
                self.metrics.key_set(Success::Ok);
                true
            }
            Err(error) => {
                self.metrics.key_set(Success::Failed);
                warn!(%error, "the JWK set was not refreshed; keeping the last one");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Arc<[Key]>, AuthError> {
        let failed = |error: reqwest::Error| unreachable(&self.url, &error);
        let answer = self.client.get(self.url.expose()).send().await.map_err(failed)?;
        let mut answer = answer.error_for_status().map_err(failed)?;
        let mut json = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if json.len() + chunk.len() > MAX_SET {
                return Err(unusable("auth.jwks_url", &self.url, "is larger than 1 MiB"));
            }
            json.extend_from_slice(&chunk);
        }
        let keys = read_set(&json, Source::Url, |algorithm| self.config.accepts(algorithm));
        usable(keys, "auth.jwks_url", &self.url).map(Into::into)
    }
}

async fn read_pem(path: &Path, config: &AuthConfig) -> Result<Key, AuthError> {
    const KEY: &str = "auth.public_key_file";
    let text = read_file(KEY, path).await?;
    let key = Key::pem(&text).map_err(|problem| unusable(KEY, path.display(), problem))?;
    if !config.accepts(key.algorithm) {
        let problem = format!("is for {:?}, which auth.algorithms does not list", key.algorithm);
        return Err(unusable(KEY, path.display(), problem));
    }
    Ok(key)
}

async fn read_jwks(path: &Path, config: &AuthConfig) -> Result<Vec<Key>, AuthError> {
    const KEY: &str = "auth.jwks_file";
    let json = read_file(KEY, path).await?;
    usable(read_set(&json, Source::File, |algorithm| config.accepts(algorithm)), KEY, path.display())
}

async fn read_file(key: &'static str, path: &Path) -> Result<Vec<u8>, AuthError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| AuthError::Unreadable { key, path: path.into(), source })
}

/// Rejects a set without a usable key: it would refuse every token, so it is better to keep the last one.
fn usable(
    keys: Result<Vec<Key>, serde_json::Error>,
    key: &'static str,
    place: impl ToString,
) -> Result<Vec<Key>, AuthError> {
    match keys {
        Ok(keys) if keys.is_empty() => Err(unusable(key, place, "has no usable key")),
        Ok(keys) => Ok(keys),
        Err(_) => Err(unusable(key, place, "is not a JWK set: {\"keys\": […]}")),
    }
}

fn unusable(key: &'static str, place: impl ToString, problem: impl Into<String>) -> AuthError {
    AuthError::Unusable { key, place: place.to_string(), problem: problem.into() }
}

/// The innermost cause is the most specific, and, unlike the outer ones, never repeats the URL.
fn unreachable(url: &SecretUrl, error: &reqwest::Error) -> AuthError {
    let mut problem = match error.status() {
        Some(status) => format!("answered {status}"),
        None if error.is_timeout() => "no answer in time".into(),
        None => "cannot be fetched".into(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        problem = inner.to_string();
        cause = inner.source();
    }
    if let Some(advice) = tls::advice(&problem) {
        problem = format!("{problem}; {advice}");
    }
    AuthError::Unreachable { url: url.to_string(), problem }
}
