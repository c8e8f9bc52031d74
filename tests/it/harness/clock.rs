//! Wall clocks that tests set, for processes under test: a node, or a Redis. A small library, which is compiled at the first
//! use and preloaded, shifts the machine's clock by as much as a file says. Elapsed time is left alone.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::{NamedTempFile, TempPath};

/// A clock for one process or several. They keep it when this is dropped.
#[derive(Debug)]
pub struct Clock {
    file: TempPath,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Self {
        let clock = Self { file: NamedTempFile::new().unwrap().into_temp_path() };
        clock.shift(0);
        clock
    }

    /// Sets the clock so many milliseconds ahead of the machine's, or behind it.
    pub fn shift(&self, ms: i64) {
        // In place: the processes have mapped this file.
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).truncate(false).open(&self.file).unwrap();
        std::io::Write::write_all(&mut file, &ms.to_ne_bytes()).unwrap();
    }

    /// What a process must have in its environment to follow this clock.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let library = library().to_str().unwrap().to_owned();
        [("LD_PRELOAD", library), ("TEST_CLOCK", self.file.to_str().unwrap().to_owned())]
    }
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join("clock.so");
        // Test processes run side by side: each makes its own, and the last to rename it does no harm to the others.
        let made = folder.join(format!("clock.so.{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&made).arg(source).arg("-ldl");
        let status = compiler.status().expect("a C compiler, which Rust needs too");
        assert!(status.success(), "the clock was not compiled: {status}");
        std::fs::rename(&made, &library).unwrap();
        library
    })
}
