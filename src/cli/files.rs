//! The process's limit of open files, which also limits its connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(super) fn raise() -> usize {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
    usize::try_from(if raised { most } else { now }).unwrap_or(usize::MAX)
}
