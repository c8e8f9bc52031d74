//! The process's use of its machine, read from the system whenever metrics are read.

use metrics::{Counter, Gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_process::Collector;
use nix::sys::resource::{UsageWho, getrusage};

use super::names::{Direction, Switch};

pub(super) struct Process {
    collector: Collector,
    switches: Vec<Counter>,
    calls: Vec<Counter>,
    runtime: [Gauge; 2],
}

impl Process {
    /// Sets the counters and gauges to update: those of [`Switch`], of [`Direction`], of the memory limit,
    /// and of the runtime's tasks and queue.
    pub(super) fn new(
        recorder: &PrometheusRecorder,
        switches: Vec<Counter>,
        calls: Vec<Counter>,
        memory_limit: Gauge,
        runtime: [Gauge; 2],
    ) -> Self {
        let collector = Collector::default();
        with_local_recorder(recorder, || collector.describe());
        memory_limit.set(crate::util::memory::limit().unwrap_or_default() as f64);
        Self { collector, switches, calls, runtime }
    }

    pub(super) fn sample(&self, recorder: &PrometheusRecorder) {
        with_local_recorder(recorder, || self.collector.collect());
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let set = |kind: Switch, count: i64| self.switches[kind as usize].absolute(count.max(0) as u64);
            set(Switch::Voluntary, usage.voluntary_context_switches());
            set(Switch::Involuntary, usage.involuntary_context_switches());
        }
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        for (kind, name) in [(Direction::Read, "syscr"), (Direction::Write, "syscw")] {
            if let Some(count) = field(&io, name) {
                self.calls[kind as usize].absolute(count);
            }
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let metrics = runtime.metrics();
            let [tasks, queue] = &self.runtime;
            tasks.set(metrics.num_alive_tasks() as f64);
            queue.set(metrics.global_queue_depth() as f64);
        }
    }
}

/// Parses the number after `name:` in a file of `/proc`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        assert_eq!(field("rchar: 1\nsyscr: 23\n", "syscr"), Some(23));
    }
}
