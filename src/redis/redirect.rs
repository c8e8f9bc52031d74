//! Replies of a cluster that redirect a command, or allow another attempt. Pure.

use fred::types::config::Server;

/// An error after which a command had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    Moved(u16, Server),
    /// The slot is being migrated, and its keys are at the target already.
    Ask(u16, Server),
    /// The server is temporarily unable: the slot is being migrated, or a failover is in progress.
    Again,
    /// The server lost the library of functions.
    NoFunction,
}

impl Redirect {
    /// Parses an error's text. `asked` is the server that replied. It may omit its own host.
    pub(super) fn read(details: &str, asked: &Server) -> Option<Self> {
        let (word, rest) = details.split_once(' ').unwrap_or((details, ""));
        match word {
            "MOVED" | "ASK" => {
                let (slot, address) = rest.split_once(' ')?;
                let (slot, server) = (slot.parse().ok()?, server(address, asked)?);
                Some(if word == "MOVED" { Self::Moved(slot, server) } else { Self::Ask(slot, server) })
            }
            "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN" => Some(Self::Again),
            "ERR" if rest.starts_with("Function not found") => Some(Self::NoFunction),
            // A function met a key that was migrated already, before it wrote anything.
            _ if details.contains("non local key") => Some(Self::Again),
            _ => None,
        }
    }
}

/// Parses `host:port`. An IPv6 address has no brackets there. A missing host means the server that replied.
fn server(address: &str, asked: &Server) -> Option<Server> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(if host.is_empty() { Server::new(asked.host.clone(), port) } else { Server::new(host, port) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_parsed_into_redirects() {
        let asked = Server::new("one", 7001);
        let read = |details| Redirect::read(details, &asked);
        let two = Server::new("10.0.0.2", 7002);
        assert_eq!(read("MOVED 3999 10.0.0.2:7002"), Some(Redirect::Moved(3999, two.clone())));
        assert_eq!(read("ASK 16383 10.0.0.2:7002"), Some(Redirect::Ask(16_383, two)));
        assert_eq!(read("MOVED 1 :7003"), Some(Redirect::Moved(1, Server::new("one", 7003))));
        assert_eq!(read("MOVED 1 fe80::1:7003"), Some(Redirect::Moved(1, Server::new("fe80::1", 7003))));
        let again = [
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "ERR Script attempted to access a non local key in a cluster node script: append, on @user_function:9.",
        ];
        for details in again {
            assert_eq!(read(details), Some(Redirect::Again), "{details}");
        }
        assert_eq!(read("ERR Function not found"), Some(Redirect::NoFunction));
        for details in ["ERR wrong number of arguments", "OOM command not allowed", "MOVED", "ASK x y", ""] {
            assert_eq!(read(details), None, "{details}");
        }
    }
}
