//! What a release needs, as far as it can be checked without building one: `make release` does the rest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{path, repository, run};

/// The files that contain a version.
const WITH_VERSION: [&str; 5] = [
    "Cargo.toml",
    "CHANGELOG.md",
    "clients/js/package.json",
    "clients/js/package-lock.json",
    "clients/python/pyproject.toml",
];

/// Asks for the version of all packages of a checkout.
fn version(root: &Path) -> Output {
    Command::new(root.join("scripts/release.sh")).arg("--versions").output().unwrap()
}

#[test]
fn all_packages_have_the_same_version() {
    let output = version(&path(""));
    assert_eq!(error_of(&output), None);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_different_version_stops_a_release() {
    for (changed, from, to) in [
        ("clients/js/package.json", "\"version\": \"", "\"version\": \"9"),
        ("clients/js/package-lock.json", "\"version\": \"", "\"version\": \"9"),
        ("clients/python/pyproject.toml", "\nversion = \"", "\nversion = \"9"),
        ("Cargo.toml", "roomlog-client = { version = \"", "roomlog-client = { version = \"9"),
    ] {
        let checkout = checkout(changed, |text| text.replacen(from, to, 1));
        let error = error_of(&version(checkout.path())).expect(changed);
        assert!(error.contains(changed) && error.contains("make them equal"), "{error}");
    }
}

#[test]
fn a_tag_needs_its_version_and_a_heading_in_the_changelog() {
    let same = concat!("v", env!("CARGO_PKG_VERSION"));
    let heading = concat!("## [", env!("CARGO_PKG_VERSION"), "] - 2026-01-01\n");
    for (tag, changelog, problem) in [
        ("v99.0.0", heading, Some("the tag v99.0.0 has the version 99.0.0")),
        (same, "## [Unreleased]\n", Some("CHANGELOG.md has no heading")),
        (same, heading, None),
    ] {
        let checkout = checkout("CHANGELOG.md", |_| changelog.to_owned());
        let author = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        for command in
            [&["init", "-q"][..], &["commit", "-q", "--allow-empty", "-m", "Release"], &["tag", tag]]
        {
            let mut git = Command::new("git");
            let done = git.args(author).args(command).current_dir(checkout.path()).status().unwrap();
            assert!(done.success(), "{command:?}");
        }
        let error = error_of(&version(checkout.path()));
        assert_eq!(error.is_some(), problem.is_some(), "{error:?}");
        assert!(error.unwrap_or_default().contains(problem.unwrap_or_default()), "{tag}");
    }
}

/// Copies the files that contain a version, one of them changed.
fn checkout(changed: &str, change: impl Fn(&str) -> String) -> TempDir {
    let checkout = tempfile::tempdir().unwrap();
    for name in WITH_VERSION {
        let copy = checkout.path().join(name);
        let text = repository(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, if name == changed { change(&text) } else { text }).unwrap();
    }
    symlink(path("scripts"), checkout.path().join("scripts")).unwrap();
    checkout
}

/// Returns what a failed command printed.
fn error_of(output: &Output) -> Option<String> {
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_configuration_of_the_debian_package_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roomlog.toml");
    // As a reader of its comments would fill it in.
    let filled =
        repository("packaging/roomlog.toml").replace("# listen =", "listen =").replace("# url =", "url =");
    fs::write(&file, filled).unwrap();
    let effective = run(&["config", "--effective", "--config", file.to_str().unwrap()], &[]).await.success();
    for set in
        ["listen = \"0.0.0.0:8080\"", "url = \"redis://127.0.0.1:6379\"", "data_dir = \"/var/lib/roomlog\""]
    {
        assert!(effective.contains(set), "{effective}");
    }
}
