//! What a stretch of time cost: processor seconds of this process, and how busy others were.
//!
//! Processor time is that of all threads, with the kernel's work for them. What cannot be read
//! from `/proc` is left out; nothing is guessed.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// Ticks a second in which Linux counts the time of a machine, on every architecture.
const TICKS_PER_S: f64 = 100.0;

/// Processor time of this process so far.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Processor seconds for one of what is done again and again for about so long.
pub(crate) fn repeat(each: Duration, mut what: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, spent) = (Instant::now(), cpu());
    let mut times = 0_u32;
    loop {
        what()?;
        times += 1;
        if began.elapsed() >= each {
            let spent = cpu().saturating_sub(spent);
            return Ok(spent.as_secs_f64() / f64::from(times));
        }
    }
}

/// Memory of this process that is resident, in MB.
pub(crate) fn resident_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

/// Begun with a stretch of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    began: Instant,
    cpu: Duration,
    machine: Option<f64>,
}

/// What it cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// Cores that other processes kept busy.
    pub(crate) others_cores: Option<f64>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu(),
            machine: machine_s(),
        }
    }

    /// Since the start.
    pub(crate) fn spent(&self) -> Spent {
        let wall_s = self.began.elapsed().as_secs_f64();
        let cpu_s = cpu().saturating_sub(self.cpu).as_secs_f64();
        let machine = machine_s().zip(self.machine);
        let others = machine.map(|(now, then)| (now - then - cpu_s).max(0.0) / wall_s);
        Spent {
            wall_s,
            cpu_s,
            others_cores: others,
        }
    }
}

/// Seconds that all processors of the machine were busy since it started.
fn machine_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = ticks
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // User, nice, system, idle, waiting for the disk, interrupts, stolen; guests are in the first.
    let [user, nice, system, _, _, hard, soft, stolen, ..] = ticks[..] else {
        return None;
    };
    Some((user + nice + system + hard + soft + stolen) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let meter = Meter::start();
        let mut sum = 0_u64;
        while meter.spent().cpu_s <= 0.0 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(meter.spent().wall_s > 0.0);
    }
}
