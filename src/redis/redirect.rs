//! The replies of a cluster that say where else a command belongs, or that it may be tried again. Pure.

use fred::types::config::Server;

/// A refusal after which a command has had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The slot belongs to another primary.
    Moved(u16, Server),
    /// The slot is being moved, and its keys are there already.
    Ask(u16, Server),
    /// The server cannot tell now: the slot is being moved, or a failover is under way.
    Again,
    /// The server lost the functions.
    NoFunction,
}

impl Redirect {
    /// Reads an error's text. `asked` is the server that answered so, which may leave its own host out.
    pub fn read(details: &str, asked: &Server) -> Option<Self> {
        let (word, rest) = details.split_once(' ').unwrap_or((details, ""));
        match word {
            "MOVED" | "ASK" => {
                let (slot, address) = rest.split_once(' ')?;
                let (slot, server) = (slot.parse().ok()?, server(address, asked)?);
                Some(if word == "MOVED" { Self::Moved(slot, server) } else { Self::Ask(slot, server) })
            }
            "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN" => Some(Self::Again),
            "ERR" if rest.starts_with("Function not found") => Some(Self::NoFunction),
            // A function came upon a key that has moved already, before it wrote anything.
            _ if details.contains("non local key") => Some(Self::Again),
            _ => None,
        }
    }
}

/// Reads `host:port`. An IPv6 address has no brackets there; a host that is missing is that of the server that was asked.
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
    fn refusals_are_told_apart() {
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
