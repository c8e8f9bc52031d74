//! A certificate authority that only explicitly configured clients trust.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// The CA's certificate and key, with the certificates that it issued.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, uuid::Uuid::new_v4().to_string());
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Returns the path of its own certificate, in PEM.
    pub fn file(&self) -> String {
        self.path("ca.pem").to_str().unwrap().to_owned()
    }

    /// Issues a certificate for these hosts. Returns the paths of the certificate and of its key.
    pub fn issue(&self, hosts: &[&str]) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(hosts).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        [("server.pem", certificate.pem()), ("server.key", key.serialize_pem())].map(|(name, text)| {
            self.write(name, &text);
            self.path(name).to_str().unwrap().to_owned()
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write::<&Path, _>(&self.path(name), text).unwrap();
    }
}
