//! The `roomlog` command.
fn main() {}
