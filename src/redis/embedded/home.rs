//! The data directory of the embedded Redis: private, locked against a second node, and with a place for the
//! socket.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{env, process};

use uuid::Uuid;

use super::EmbeddedError;

/// Maximum length of a socket's path, in bytes. Linux allows 107, macOS 103.
const LONGEST_SOCKET: usize = 103;

const LOCK: &str = "roomlog.lock";
const PID_FILE: &str = "redis.pid";
const SOCKET: &str = "redis.sock";

/// A data directory that this process owns while the value exists.
#[derive(Debug)]
pub(super) struct Home {
    /// Absolute, with symbolic links resolved. A leftover Redis is recognised by it.
    pub(super) dir: PathBuf,
    /// The socket of Redis; outside `dir` if that path is too long.
    pub(super) socket: PathBuf,
    /// Locked. A child process does not inherit it, since Rust opens files close-on-exec.
    lock: File,
}

impl Drop for Home {
    /// Unlocks for all holders, including a process that was just forked and has a copy until its exec.
    fn drop(&mut self) {
        let _ = self.lock.unlock(); // Closing the file unlocks it too.
    }
}

impl Home {
    pub(super) fn open(dir: &Path) -> Result<Self, EmbeddedError> {
        let unwritable = |path: &Path, source| EmbeddedError::Unwritable { path: path.to_owned(), source };
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(EmbeddedError::NotADirectory(dir.to_owned())),
            Ok(_) => {}
            Err(_) => {
                DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| {
                    match source.kind() {
                        io::ErrorKind::NotADirectory => EmbeddedError::NotADirectory(dir.to_owned()),
                        _ => unwritable(dir, source),
                    }
                })?
            }
        }
        let dir = dir.canonicalize().map_err(|source| unwritable(dir, source))?;
        let lock = lock(&dir)?;
        let socket = place_for_socket(&dir, &env::temp_dir())?;
        Ok(Self { dir, socket, lock })
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.dir.join(PID_FILE)
    }
}

/// Takes the lock of `dir` and writes this process's id into it, for the error message of the next node.
fn lock(dir: &Path) -> Result<File, EmbeddedError> {
    let path = dir.join(LOCK);
    let unwritable = |source| EmbeddedError::Unwritable { path: path.clone(), source };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder); // The holder is only named in the error.
            return Err(EmbeddedError::InUse { path: dir.to_owned(), pid: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(unwritable(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(unwritable)?;
    Ok(file)
}

fn place_for_socket(dir: &Path, temp: &Path) -> Result<PathBuf, EmbeddedError> {
    match name_of_socket(dir, temp) {
        (socket, None) => Ok(socket),
        (socket, Some(folder)) => match make_private(&folder) {
            Ok(()) => Ok(socket),
            Err(problem) => Err(EmbeddedError::Socket { path: folder, problem }),
        },
    }
}

/// Returns the socket that a Redis on this data directory listens on, if it runs. Creates nothing.
pub(super) fn existing_socket(dir: &Path) -> Option<PathBuf> {
    let (socket, folder) = name_of_socket(&dir.canonicalize().ok()?, &env::temp_dir());
    let is_ours = folder.is_none_or(|folder| is_private(&folder).is_ok_and(|private| private));
    (is_ours && socket.exists()).then_some(socket)
}

/// The socket is in the data directory, if its path fits into a Unix address and needs no escapes in a URL.
/// Otherwise it is in a short private directory (the second value), whose name is derived from the data
/// directory.
fn name_of_socket(dir: &Path, temp: &Path) -> (PathBuf, Option<PathBuf>) {
    let socket = dir.join(SOCKET);
    if fits(&socket) {
        return (socket, None);
    }
    let name = format!("roomlog-{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, dir.as_os_str().as_encoded_bytes()));
    let [usual, last] = [temp, Path::new("/tmp")].map(|folder| folder.join(&name));
    let folder = if fits(&usual.join(SOCKET)) { usual } else { last };
    (folder.join(SOCKET), Some(folder))
}

fn fits(socket: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let bytes = socket.as_os_str().as_encoded_bytes();
    bytes.len() <= LONGEST_SOCKET && bytes.iter().all(plain)
}

/// Creates a directory that only this user can enter. An existing one must have these rights already, because
/// anybody may create names in the temporary directory.
fn make_private(folder: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.to_string()),
    }
    match is_private(folder) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it exists, and is not a directory that only this user can enter".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_private(folder: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(folder)?;
    let owned = found.uid() == nix::unistd::geteuid().as_raw();
    Ok(found.is_dir() && owned && found.mode() & 0o077 == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_directory_is_made_for_this_user_only() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(&temp.path().join("new/data")).unwrap();
        assert_eq!(home.dir.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(home.socket, home.dir.join(SOCKET));
    }

    #[test]
    fn unusable_directories_are_refused_in_clear_words() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        for dir in [file.clone(), file.join("below")] {
            let error = Home::open(&dir).unwrap_err().to_string();
            assert!(error.contains("not a directory") && error.contains("--data-dir"), "{error}");
        }
        let error = Home::open(Path::new("/proc/roomlog")).unwrap_err().to_string();
        assert!(error.contains("cannot be used") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_second_node_learns_which_process_has_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let first = Home::open(temp.path()).unwrap();
        let error = Home::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", process::id())), "{error}");
        assert!(error.contains(temp.path().to_str().unwrap()) && error.contains("--data-dir"), "{error}");
        drop(first);
        assert!(Home::open(temp.path()).is_ok());
    }

    #[test]
    fn sockets_fit_into_an_address_and_a_url() {
        let temp = tempfile::tempdir().unwrap();
        let short = temp.path();
        for dir in ["/x".repeat(60), "/with space".to_owned(), "/ümläut".to_owned()] {
            let socket = place_for_socket(Path::new(&dir), short).unwrap();
            assert!(fits(&socket) && socket.starts_with(short), "{socket:?}");
            assert_eq!(socket, place_for_socket(Path::new(&dir), short).unwrap());
        }
        let two = ["/a b", "/a c"].map(|dir| place_for_socket(Path::new(dir), short).unwrap());
        assert_ne!(two[0], two[1]);
    }

    #[test]
    fn looking_for_a_socket_creates_nothing() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(existing_socket(&temp.path().join("missing")), None);
        assert_eq!(existing_socket(temp.path()), None);
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);
        let home = Home::open(temp.path()).unwrap();
        fs::write(&home.socket, "").unwrap();
        assert_eq!(existing_socket(temp.path()), Some(home.socket.clone()));
    }

    #[test]
    fn a_foreign_directory_for_the_socket_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (open, link) = (temp.path().join("open"), temp.path().join("link"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(&open, &link).unwrap();
        assert!(make_private(&open).is_err());
        assert!(make_private(&link).is_err());
        assert!(make_private(&temp.path().join("new")).is_ok());
    }
}
