//! The memory that this process may use: limited by the machine and by its control groups (containers).

use std::fs;

/// Returns the least of the machine's memory and the control groups' limits, in bytes; `None` where the
/// system reports none.
pub(crate) fn limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| fs::read_to_string(path).ok());
    // Without a limit, version 2 says `max`, and version 1 a number larger than any machine's memory.
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Returns the files that may contain a limit, from `/proc/self/cgroup`: those of the process's own group and
/// of each parent, in versions 1 and 2. In a container, the visible groups may begin at its own.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{group}/{file}"));
            let Some((above, _)) = group.rsplit_once('/') else { break };
            group = above;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_at_most_the_memory_of_the_machine() {
        assert!(limit().is_some_and(|limit| (1 << 20..1 << 50).contains(&limit)));
        assert_eq!(total("MemFree: 1 kB\nMemTotal:  5 kB\n"), Some(5120));
    }

    #[test]
    fn limits_are_read_from_each_group_of_both_versions() {
        assert_eq!(
            limit_files("0::/system.slice/roomlog.service\n"),
            [
                "/sys/fs/cgroup/system.slice/roomlog.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            limit_files("5:cpu,cpuacct:/a\n4:memory:/docker/c1\n"),
            [
                "/sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
    }
}
