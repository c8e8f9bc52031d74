//! Small C libraries that are preloaded into processes under test, and the files through which a test
//! controls them.

use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;
use tempfile::{NamedTempFile, TempPath};

use super::server::built;

/// A file of numbers that processes have mapped.
#[derive(Debug)]
pub struct Dials {
    file: TempPath,
}

impl Dials {
    /// Creates a file of these numbers.
    pub fn new(numbers: &[i64]) -> Self {
        let dials = Self { file: NamedTempFile::new().unwrap().into_temp_path() };
        dials.set(numbers);
        dials
    }

    /// Overwrites the numbers in place, since processes have mapped the file.
    pub fn set(&self, numbers: &[i64]) {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).truncate(false).open(&self.file).unwrap();
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
    }

    pub fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

/// Compiles a library from this source, a path in the repository, at its first use.
pub fn compiled(source: &str) -> PathBuf {
    static COMPILED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let folder = built().join("shims");
    std::fs::create_dir_all(&folder).unwrap();
    let name = Path::new(source).with_extension("so");
    let library = folder.join(name.file_name().unwrap());
    let mut compiled = COMPILED.lock();
    if !compiled.contains(&library) {
        // Test processes run in parallel. Each compiles its own copy and renames it, and replacing another's
        // is harmless.
        let made = library.with_extension(format!("so.{}", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&made)
            .arg(super::path(source))
            .args(["-ldl", "-pthread"]);
        let status = compiler.status().expect("a C compiler, which Rust needs too");
        assert!(status.success(), "the library was not compiled: {status}");
        std::fs::rename(&made, &library).unwrap();
        compiled.push(library.clone());
    }
    library
}
