//! The keys that tokens are verified with: those of the configuration, and those of a JWK set at a URL, which is read
//! again from time to time and as soon as a token names a key that it did not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use crate::config::{Algorithm, AuthConfig, SecretUrl};
use crate::telemetry::{Metrics, Success};
use crate::tls;

use super::jwk::{Key, Source, read_set};
use super::lookups::{Lookups, Step};

/// Longest time to wait for the JWK set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of a JWK set.
const MAX_SET: usize = 1 << 20;

/// Keys that cannot be had, when the server starts.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The configuration names no key at all.
    #[error(
        "no key to verify tokens with: set auth.hs256_secret (`openssl rand -hex 32` makes one), \
         auth.public_key_file, auth.jwks_file or auth.jwks_url"
    )]
    NoKeys,
    /// A file cannot be read.
    #[error("{key}: {}: {source}", path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or an answer holds no key that can be used.
    #[error("{key}: {place} {problem}")]
    Unusable {
        /// The key of the configuration.
        key: &'static str,
        /// The file or URL, without secrets.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The JWK set cannot be fetched.
    #[error("auth.jwks_url: {url}: {problem}")]
    Unreachable {
        /// The URL, without secrets.
        url: String,
        /// Why not.
        problem: String,
    },
    /// A token cannot be made without `auth.hs256_secret`, or its claims cannot be written.
    #[error("a token cannot be made: {0}")]
    Mint(String),
}

/// Whether a key id that no key had is that of a key by now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    No,
    /// The set cannot be read, or was read too often: it may be known after this time.
    Unknown(Duration),
}

/// All keys. Those of the URL change while the server runs; [`refresh_loop`](Self::refresh_loop) sees to it.
pub struct KeySet {
    fixed: Vec<Key>,
    remote: Option<Arc<Remote>>,
}

/// The JWK set at a URL.
struct Remote {
    url: SecretUrl,
    client: reqwest::Client,
    config: AuthConfig,
    /// The keys of the last good answer. All of them hold, so that a new key can be published before it is used.
    keys: RwLock<Arc<[Key]>>,
    /// Early refreshes. Held while one is under way, so that there is one at a time.
    lookups: Arc<Mutex<Lookups>>,
    metrics: Arc<Metrics>,
}

impl KeySet {
    /// Reads the configured keys, those at the URL too.
    ///
    /// # Errors
    /// No key is configured, or one cannot be read or used.
    pub async fn load(config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
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

    /// Reads the JWK set at the URL again whenever `auth.jwks_refresh` went by, until cancelled. Where that fails, the
    /// keys stay as they are. Without a URL it returns at once.
    pub async fn refresh_loop(self: Arc<Self>, cancelled: CancellationToken) {
        let Some(remote) = &self.remote else { return };
        let refresh = async {
            loop {
                tokio::time::sleep(remote.config.jwks_refresh).await;
                remote.refresh().await;
            }
        };
        cancelled.run_until_cancelled(refresh).await;
    }

    /// The keys that may verify a token: of its algorithm, and of its key id where both have one.
    pub(super) fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<Key> {
        let remote = self.remote.as_ref().map(|remote| remote.keys.read().clone());
        let fits = |key: &&Key| {
            let same_id = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            key.algorithm == algorithm && same_id
        };
        self.fixed.iter().chain(remote.iter().flat_map(|keys| keys.iter())).filter(fits).cloned().collect()
    }

    /// Whether some key has this id.
    pub(super) fn has(&self, id: &str) -> bool {
        let fixed = self.fixed.iter().any(|key| key.id.as_deref() == Some(id));
        fixed || self.remote.as_ref().is_some_and(|remote| remote.has(id))
    }

    /// Looks for a key id that no key had, by an early refresh of the JWK set.
    pub(super) async fn find(&self, id: &str) -> Found {
        match &self.remote {
            Some(remote) => remote.find(id).await,
            None => Found::No,
        }
    }
}

impl Remote {
    async fn connect(url: SecretUrl, config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
        // The process may have a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
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
            // A task, which the time limit ends: a client that goes away must not take the refresh from the others.
            let refresh = async move {
                let began = Instant::now();
                let succeeded = remote.refresh().await;
                lookups.refreshed(began, Instant::now(), succeeded);
            };
            if let Err(error) = tokio::spawn(refresh.in_current_span()).await {
                warn!(%error, "the early refresh of the JWK set ended");
            }
        }
    }

    /// Whether the set was read.
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
                warn!(%error, "the JWK set stays as it was");
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

/// A set without a usable key would refuse every token: better to keep the last one.
fn usable(
    keys: Result<Vec<Key>, serde_json::Error>,
    key: &'static str,
    place: impl ToString,
) -> Result<Vec<Key>, AuthError> {
    match keys {
        Ok(keys) if keys.is_empty() => Err(unusable(key, place, "has no key that can be used here")),
        Ok(keys) => Ok(keys),
        Err(_) => Err(unusable(key, place, "is no JWK set: {\"keys\": […]}")),
    }
}

fn unusable(key: &'static str, place: impl ToString, problem: impl Into<String>) -> AuthError {
    AuthError::Unusable { key, place: place.to_string(), problem: problem.into() }
}

/// The innermost cause says most, and unlike the outer ones never repeats the URL.
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
