//! An nginx process that belongs to one test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::process::Process;

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
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
        let process = Process::start(command).expect("nginx; scripts/install-deps.sh nginx");
        let nginx = Self { _process: process, address, _dir: dir };
        eventually("nginx answers", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        nginx
    }
}
