//! The README's tour: every command that it shows, run as written.

use std::process::{Child, Command, Stdio};

use crate::harness::{Lines, Server, admin, eventually, follow};

const README: &str = include_str!("../../README.md");

/// Returns the blocks of shell commands in a section.
fn blocks(section: &str) -> Vec<String> {
    let (_, section) = README.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().replace("\\\n", "")).collect()
}

/// Returns a command of the tour, with the program's actual path instead of the one where `make run` builds
/// it.
fn shell(command: &str, server: &Server) -> Command {
    let command = command.replace("target/release/roomlog", env!("CARGO_BIN_EXE_roomlog"));
    let mut shell = Command::new("sh");
    // `exec`, so that stopping the shell stops the command.
    shell.args(["-ec", &format!("exec {command}")]);
    shell.env("ROOMLOG_URL", server.url()).env("ROOMLOG_TOKEN", admin());
    shell
}

/// A command that runs until it is stopped.
struct Follower {
    child: Child,
    printed: Lines,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let printed = follow(child.stdout.take().unwrap());
        Self { child, printed }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn the_commands_of_the_tour_work_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let server = Server::serve(&["--dev", "--data-dir", data_dir.to_str().unwrap()], &[]).await;
    let blocks = blocks("A minute with it");
    assert!(blocks[0].contains("export ROOMLOG_TOKEN="), "{blocks:?}");
    let commands: Vec<&str> = blocks[1..].iter().flat_map(|block| block.lines()).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    let (endless, others): (Vec<&str>, Vec<&str>) =
        commands.iter().partition(|command| command.contains(" tail ") || command.contains("curl -sN"));
    let followers: Vec<Follower> =
        endless.iter().map(|command| Follower::start(shell(command, &server))).collect();
    for command in &others {
        let output = shell(command, &server).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("\"id\":"), "{command}: {output:?}");
    }
    let publish = others.iter().find(|command| command.contains("roomlog publish")).unwrap();
    for (command, follower) in endless.iter().zip(&followers) {
        eventually(command, async || {
            // It may have begun to follow after the messages published so far.
            assert!(shell(publish, &server).output().unwrap().status.success());
            follower.printed.lock().iter().any(|line| line.contains("hello"))
        })
        .await;
    }
}
