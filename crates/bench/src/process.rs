//! The resource usage of processes, from their clocks and `/proc`. On systems other than Linux the figures
//! are missing.

use std::fs;
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::{time::clock_getcpuclockid, unistd::Pid};

use super::Target;
use roomlog_testkit::Memory;

/// Returns the CPU time of processes, in user mode and in the kernel. `None` if one of them is not known, or
/// there are none.
fn cpu(pids: &[u32]) -> Option<Duration> {
    let each: Option<Vec<Duration>> = pids.iter().map(|pid| cpu_of(*pid)).collect();
    each.filter(|times| !times.is_empty()).map(|times| times.iter().sum())
}

/// Returns the running processes of this leader's process group.
pub(super) fn group(leader: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_in_it = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        group_of(&stat) == Some(leader)
    };
    pids.filter(is_in_it).collect()
}

fn group_of(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

/// Reads the process's own clock. `/proc` counts in ticks of 10 ms, too coarse for a run of seconds.
#[cfg(target_os = "linux")]
fn cpu_of(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    clock.now().ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn cpu_of(_pid: u32) -> Option<Duration> {
    None
}

/// Returns the memory of processes. `None` if one of them is not known, or there are none.
pub(super) fn memory(pids: &[u32]) -> Option<Memory> {
    let each: Option<Vec<Memory>> = pids.iter().map(|pid| Memory::of(*pid)).collect();
    each.filter(|each| !each.is_empty()).map(|each| {
        each.iter().fold(Memory::default(), |sum, one| Memory {
            rss: sum.rss + one.rss,
            pss: sum.pss + one.pss,
            peak: sum.peak + one.peak,
        })
    })
}

/// CPU times of all participants at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub server: Option<Duration>,
    pub redis: Option<Duration>,
    /// This process.
    pub generator: Option<Duration>,
}

impl Cpu {
    pub fn now(target: &Target) -> Self {
        let redis: Vec<u32> = target.redis.iter().copied().collect();
        Self { server: cpu(&target.pids()), redis: cpu(&redis), generator: cpu(&[std::process::id()]) }
    }

    /// Returns the CPU times spent since `before`.
    pub fn since(self, before: Self) -> Self {
        let difference = |now: Option<Duration>, before: Option<Duration>| Some(now?.saturating_sub(before?));
        Self {
            server: difference(self.server, before.server),
            redis: difference(self.redis, before.redis),
            generator: difference(self.generator, before.generator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn cpu_time_is_the_sum_over_all_processes_if_all_are_known() {
        let (this, none) = (std::process::id(), u32::MAX);
        assert!(cpu(&[this, this]) > cpu(&[this]));
        assert_eq!((cpu(&[]), cpu(&[this, none])), (None, None));
    }

    #[test]
    fn the_process_group_is_parsed_after_any_process_name() {
        assert_eq!(group_of("9 (a) S) S 1 7 7 0"), Some(7));
        assert_eq!(group_of("9 (a) S"), None);
    }
}
