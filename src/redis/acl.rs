//! The rights that a Redis user needs to run Roomlog: one list of commands, from which `roomlog doctor --acl`
//! builds an ACL rule.

use super::keys::Keys;
use super::pubsub::DUMMY;

/// Every command that a node, its client library or one of its functions runs. Redis checks the calling
/// user's rights inside functions too. `|` separates a subcommand.
const COMMANDS: [&str; 55] = [
    // The connection and its checks.
    "ping",
    "select",
    "client|id",
    "info",
    "config|get",
    "time",
    "wait",
    // Clusters.
    "asking",
    "cluster|getkeysinslot",
    "cluster|info",
    "cluster|slots",
    // Functions.
    "fcall",
    "function|load",
    // Live copies.
    "publish",
    "subscribe",
    "psubscribe",
    "spublish",
    "ssubscribe",
    "sunsubscribe",
    "pubsub|shardnumsub",
    // Logs.
    "xadd",
    "xdel",
    "xlen",
    "xrange",
    "xrevrange",
    "xtrim",
    "xinfo|stream",
    "xgroup|create",
    "xgroup|destroy",
    "xgroup|setid",
    // Heads, keys of messages, durable subscriptions, read positions.
    "hdel",
    "hget",
    "hgetall",
    "hincrby",
    "hlen",
    "hmget",
    "hscan",
    "hset",
    "hsetnx",
    "zadd",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zremrangebyscore",
    "zscore",
    // Rooms, leases, node liveness.
    "del",
    "exists",
    "get",
    "memory|usage",
    "pexpire",
    "scan",
    "set",
    "unlink",
];

/// `ACL SETUSER` for the user `user` on a Redis where keys begin with `prefix`. The password is a
/// placeholder.
pub(crate) fn rule(user: &str, prefix: &str) -> String {
    let names = Keys::new(prefix).pattern();
    let mut rule = format!("ACL SETUSER {user} reset on >PASSWORD ~{names} &{names} &{DUMMY}");
    for command in COMMANDS {
        rule.push_str(" +");
        rule.push_str(command);
    }
    rule
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::redis::functions::Functions;

    fn calls<'a>(text: &'a str, calls: &'a [&str]) -> impl Iterator<Item = &'a str> {
        calls
            .iter()
            .flat_map(|call| text.split(call).skip(1))
            .map(|rest| rest.lines().next().unwrap_or_default())
    }

    /// The quoted, upper-case words at the start of these arguments: a command, and a subcommand if there is
    /// one.
    fn words(arguments: &str, quote: char) -> (String, Option<String>) {
        let mut quoted = arguments.split(quote).skip(1).step_by(2).map(str::to_lowercase);
        let command = quoted.next().unwrap_or_else(|| panic!("no command in {arguments:?}"));
        (command, quoted.next())
    }

    fn allowed((command, sub): &(String, Option<String>)) -> bool {
        let sub = sub.as_ref().map(|sub| format!("{command}|{sub}"));
        COMMANDS.contains(&command.as_str()) || sub.is_some_and(|sub| COMMANDS.contains(&sub.as_str()))
    }

    #[test]
    fn the_rule_has_each_command_that_a_function_runs() {
        let code = Functions::default().code;
        let calls: Vec<_> =
            calls(&code, &["redis.call(", "redis.pcall("]).map(|call| words(call, '\'')).collect();
        assert!(calls.len() > 20, "{calls:?}");
        for call in &calls {
            assert!(allowed(call), "{call:?} is missing in COMMANDS of src/redis/acl.rs");
        }
    }

    #[test]
    fn the_rule_has_each_command_that_is_sent_by_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redis");
        let mut count = 0;
        for file in
            folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
        {
            let source = std::fs::read_to_string(&file).unwrap();
            for call in calls(&source, &["Command::new(RedisCall::", "CustomCommand::new_static(\""]) {
                let name = call
                    .split('"')
                    .find(|part| part.len() > 2 && part.chars().all(|c| c.is_ascii_uppercase()));
                let Some(name) = name.map(str::to_lowercase) else { continue };
                let known = COMMANDS.iter().any(|command| command.split('|').next() == Some(&name));
                assert!(known, "{name} of {} is missing in COMMANDS of src/redis/acl.rs", file.display());
                count += 1;
            }
        }
        assert!(count > 5, "{count}");
    }

    #[test]
    fn a_prefix_is_never_taken_for_a_pattern() {
        assert!(
            rule("ann", "a*:")
                .starts_with("ACL SETUSER ann reset on >PASSWORD ~a\\*:* &a\\*:* &roomlog:dummy +ping ")
        );
    }
}
