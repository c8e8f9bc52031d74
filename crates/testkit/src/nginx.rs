//! An nginx process that belongs to one test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    /// Starts nginx. `config` makes its configuration from the address to listen on and a directory for its
    /// files.
    pub async fn start(config: impl FnOnce(SocketAddr, &Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = config(address, dir.path());
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, format!("daemon off;\nmaster_process off;\n{config}")).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(&path).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("nginx; scripts/install-deps.sh nginx");
        let nginx = Self { child, address, _dir: dir };
        eventually("nginx answers", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        self.child.wait().unwrap();
    }
}
