//! The program to run: the machine's own `redis-server` or `valkey-server`, if it is new enough; otherwise
//! advice on installing one.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::EmbeddedError;

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// The first version with functions and sharded pub/sub.
const OLDEST: (u32, u32) = (7, 0);

/// Package managers: the program that reveals each, and the command to type.
const INSTALLERS: [(&str, &str); 6] = [
    ("apt-get", "sudo apt-get install redis-server"),
    ("dnf", "sudo dnf install valkey    (or redis, where there is no valkey)"),
    ("apk", "sudo apk add valkey        (or redis, where there is no valkey)"),
    ("pacman", "sudo pacman -S valkey"),
    ("zypper", "sudo zypper install valkey (or redis, where there is no valkey)"),
    ("brew", "brew install redis"),
];

#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

impl Program {
    pub(super) async fn find(configured: Option<&Path>) -> Result<Self, EmbeddedError> {
        let candidates = match configured {
            Some(path) => vec![path.to_owned()],
            None => NAMES.iter().flat_map(|name| on_path(name)).collect(),
        };
        let mut refused = None;
        for path in candidates {
            match Self::check(path).await {
                Ok(program) => return Ok(program),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| EmbeddedError::NotInstalled { advice: how_to_install() }))
    }

    async fn check(path: PathBuf) -> Result<Self, EmbeddedError> {
        let unusable = |problem: String| EmbeddedError::Unusable { path: path.clone(), problem };
        let asked = Command::new(&path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(Duration::from_secs(10), asked)
            .await
            .map_err(|_| unusable("it did not answer --version within 10 s".to_owned()))?
            .map_err(|error| unusable(error.to_string()))?;
        Self::judge(path, &String::from_utf8_lossy(&output.stdout))
    }

    fn judge(path: PathBuf, output: &str) -> Result<Self, EmbeddedError> {
        match parse_version(output) {
            Some((version, number)) if number >= OLDEST => Ok(Self { path, version }),
            Some((version, _)) => Err(EmbeddedError::TooOld { path, version, advice: how_to_install() }),
            None => {
                let problem = format!("it answered --version with {:?}", output.trim());
                Err(EmbeddedError::Unusable { path, problem })
            }
        }
    }
}

/// Parses `Redis server v=7.0.15 sha=…`: the version as text, and its first two numbers.
fn parse_version(output: &str) -> Option<(String, (u32, u32))> {
    let version = output.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split('.').map(str::parse);
    Some((version.to_owned(), (numbers.next()?.ok()?, numbers.next()?.ok()?)))
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let runnable = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).filter(runnable).collect()
}

fn how_to_install() -> String {
    advice(|manager| !on_path(manager).is_empty())
}

/// The commands for the package managers that are installed; all of them if none is.
fn advice(is_there: impl Fn(&str) -> bool) -> String {
    let some = INSTALLERS.iter().any(|(manager, _)| is_there(manager));
    let fitting = INSTALLERS.iter().filter(|(manager, _)| !some || is_there(manager));
    fitting.map(|(_, line)| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_the_output_of_servers() {
        for (output, expected) in [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", Some((7, 0))),
            ("Redis server v=6.2.7 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64", Some((6, 2))),
            ("Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", Some((8, 1))),
            ("Redis server v=255.255.255 sha=00000000:0", Some((255, 255))),
            ("usage: something else", None),
            ("", None),
        ] {
            assert_eq!(parse_version(output).map(|(_, number)| number), expected, "{output}");
        }
    }

    #[test]
    fn advice_fits_the_machine() {
        assert_eq!(advice(|name| name == "apk").lines().count(), 1);
        assert!(advice(|name| name == "apk").contains("apk add"));
        assert_eq!(advice(|_| false).lines().count(), INSTALLERS.len());
    }

    #[test]
    fn old_and_other_programs_are_refused_in_clear_words() {
        let old = "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64";
        let error = Program::judge("/bin/redis-server".into(), old).unwrap_err().to_string();
        assert!(error.contains("is version 6.0.16") && error.contains("--redis-url"), "{error}");

        let error = Program::judge("/bin/echo".into(), "hello").unwrap_err().to_string();
        assert!(error.contains("/bin/echo cannot be run") && error.contains("hello"), "{error}");
    }

    #[tokio::test]
    async fn a_configured_program_that_is_missing_is_named() {
        let error = Program::find(Some(Path::new("/nowhere/redis-server"))).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/redis-server cannot be run"), "{error}");
    }
}
