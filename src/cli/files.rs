//! The files that this process may have open, which bound its connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows as many as the system lets this process have, and says how many that are.
pub fn raise() -> usize {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
    usize::try_from(if raised { most } else { now }).unwrap_or(usize::MAX)
}
