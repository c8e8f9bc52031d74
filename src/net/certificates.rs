//! The server's own certificate: read at the start, and reloaded whenever its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

const CHECK_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{key}: {}: {problem}", path.display())]
    File { key: &'static str, path: PathBuf, problem: String },
    #[error("server.tls_cert and server.tls_key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// The versions of the two files, each as modification time, length and inode.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

pub(crate) struct Certificates {
    files: [PathBuf; 2],
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads a certificate, followed by its intermediate certificates, and its key, all as PEM.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = [certificate.to_owned(), key.to_owned()];
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().clone()
    }

    /// Reloads the files when they change. If the new ones are unusable, the previous ones stay in force.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut known = self.stamp();
        let look = async {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let found = self.stamp();
                if found == known {
                    continue;
                }
                known = found;
                match read(&self.files) {
                    Ok(renewed) => {
                        *self.current.write() = renewed;
                        tracing::info!("the certificate was reloaded; new connections use it");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the new certificate cannot be used; keeping the previous one")
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
