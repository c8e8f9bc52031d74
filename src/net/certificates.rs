//! The server's own certificate: read at the start, and again whenever its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not there, or holds nothing of this kind.
    #[error("{key}: {}: {problem}", path.display())]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// They are no pair, or of a kind that is not supported.
    #[error("server.tls_cert and server.tls_key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// What tells one version of a file from the next: its time, its length, and which file it is.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// The pair that is in force.
pub struct Certificates {
    files: [PathBuf; 2],
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads a certificate, with those between it and its authority behind it, and its key, all as PEM.
    ///
    /// # Errors
    /// If a file cannot be read, or the two do not go together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = [certificate.to_owned(), key.to_owned()];
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// What the next connection is to be served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().clone()
    }

    /// Reads the files again when they change. Where they are then of no use, those before stay in force.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut known = self.stamp();
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                let found = self.stamp();
                if found == known {
                    continue;
                }
                known = found;
                match read(&self.files) {
                    Ok(renewed) => {
                        *self.current.write() = renewed;
                        tracing::info!("the certificate has changed, and is in force for new connections");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the new certificate cannot be used; the one before stays in force")
                    }
                }
            }
        };
        stop.run_until_cancelled(look).await;
    }

    fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        [&self.files[0], &self.files[1]].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        })
    }
}

fn read(files: &[PathBuf; 2]) -> Result<Arc<ServerConfig>, CertificateError> {
    let file = |key, path: &PathBuf, problem| CertificateError::File { key, path: path.clone(), problem };
    let [certificate, key] = files;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain
        .and_then(|chain| if chain.is_empty() { Err(PemError::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| file("server.tls_cert", certificate, words(error, "certificate")))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file("server.tls_key", key, words(error, "private key")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(CertificateError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn words(error: PemError, wanted: &str) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => format!("no {wanted} is in it; it must be a PEM file"),
        other => other.to_string(),
    }
}
