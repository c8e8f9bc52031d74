//! The `roomlog` command.

fn main() -> std::process::ExitCode {
    roomlog::run()
}
