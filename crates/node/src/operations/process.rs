//! What the system knows of this process, under the names that Prometheus' own libraries use.
//!
//! Read from `/proc` at the moment of asking. What cannot be read is left out.

use std::{fmt::Write as _, fs};

/// Ticks a second in which Linux counts processor time, on every architecture.
const TICKS_PER_S: f64 = 100.0;

/// In the text format of Prometheus.
pub(super) fn metrics() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let open_files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    render(&Sources {
        stat: &read("/proc/self/stat"),
        status: &read("/proc/self/status"),
        limits: &read("/proc/self/limits"),
        system: &read("/proc/stat"),
        open_files,
    })
}

/// The texts that all is found in.
struct Sources<'a> {
    stat: &'a str,
    status: &'a str,
    limits: &'a str,
    system: &'a str,
    open_files: Option<usize>,
}

fn render(sources: &Sources<'_>) -> String {
    let ticks = |field| after_name(sources.stat, field);
    let busy = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    let booted = first_word(sources.system, "btime");
    let started = booted
        .zip(ticks(22))
        .map(|(booted, ticks)| booted + ticks / TICKS_PER_S);
    let memory = |line| first_word(sources.status, line).map(|kilobytes| kilobytes * 1024.0);
    let open_files = sources
        .open_files
        .and_then(|count| u32::try_from(count).ok());
    let files_max = first_word(sources.limits, "Max open files");
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Seconds of processor time",
            busy.map(|ticks| ticks / TICKS_PER_S),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors",
            open_files.map(f64::from),
        ),
        (
            "process_max_fds",
            "gauge",
            "File descriptors that may be open",
            files_max,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use",
            memory("VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Address space in use",
            memory("VmSize:"),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process since the Unix epoch",
            started,
        ),
    ] {
        if let Some(value) = value {
            writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            )
            .expect("writing to memory does not fail");
        }
    }
    text
}

/// A field of `/proc/self/stat` by the number that `proc(5)` gives it. The second is the name of
/// the program, which may hold blanks.
fn after_name(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

/// The number behind the beginning of a line.
fn first_word(text: &str, line: &str) -> Option<f64> {
    let rest = text.lines().find_map(|each| each.strip_prefix(line))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_become_metrics() {
        let text = render(&Sources {
            stat: "7 (a (b) c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 3 0 12345 9 9 0",
            status: "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n",
            limits: "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n",
            system: "cpu  1 2\nbtime 1700000000\n",
            open_files: Some(12),
        });
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                "process_cpu_seconds_total 3",
                "process_open_fds 12",
                "process_max_fds 1024",
                "process_resident_memory_bytes 1048576",
                "process_virtual_memory_bytes 2097152",
                "process_start_time_seconds 1700000123.45",
            ]
        );
        let nothing = Sources {
            stat: "",
            status: "",
            limits: "Max open files  unlimited",
            system: "",
            open_files: None,
        };
        assert_eq!(render(&nothing), "");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_of_them() {
        assert_eq!(metrics().matches("# TYPE process_").count(), 6);
    }
}
