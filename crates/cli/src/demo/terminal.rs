//! The demo in a terminal: live lines while it runs, a summary at the end.
//!
//! Promises: whoever reads the summary as JSON finds nothing else on standard output; live lines
//! go to standard error, redrawn in place on a terminal, one a second elsewhere. Draws
//! snapshots; finds nothing out itself.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use serde::Serialize;

use super::snapshot::{NodeView, Snapshot, Ways};

/// Nodes in the redrawn table; a terminal has about so many lines to spare.
const TABLE_NODES_MAX: usize = 24;

/// Shows snapshots on standard error.
pub(crate) struct Live {
    in_place: bool,
    drawn: usize,
    last_second: Option<u64>,
    /// Whether what was shown last had reached its end.
    finished: bool,
}

impl Live {
    /// Looks whether somebody watches.
    pub(crate) fn new() -> Self {
        Self {
            in_place: std::io::stderr().is_terminal(),
            drawn: 0,
            last_second: None,
            finished: false,
        }
    }

    /// Shows how it stands. Failure to write is no reason to end the network.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let mut text = String::new();
        if self.in_place {
            if self.drawn > 0 {
                let _ = write!(text, "\x1b[{}A", self.drawn);
            }
            let lines = table(snapshot);
            for line in &lines {
                let _ = writeln!(text, "\x1b[2K{line}");
            }
            self.drawn = lines.len();
        } else {
            let second = snapshot.elapsed_ms / 1000;
            let news = snapshot.finished && !self.finished;
            if self.last_second == Some(second) && !news {
                return;
            }
            self.last_second = Some(second);
            self.finished = snapshot.finished;
            let _ = writeln!(text, "{}", line(snapshot));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Says something between two pictures; the next one is drawn below it.
    pub(crate) fn say(&mut self, text: &str) {
        self.drawn = 0;
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Everything in one line.
fn line(snapshot: &Snapshot) -> String {
    let heights = snapshot.nodes.iter().map(|node| node.height);
    let (low, high) = (
        heights.clone().min().unwrap_or(0),
        heights.max().unwrap_or(0),
    );
    let members = snapshot
        .nodes
        .iter()
        .filter(|n| n.alive)
        .map(|n| n.members)
        .min()
        .unwrap_or(0);
    let up = snapshot.nodes.iter().filter(|node| node.alive).count();
    let latency = &snapshot.latency;
    format!(
        "{:>5.1} s  orderer at {}{}, nodes at {low}..{high}, {up} of {} up, members {members}, \
         p50 {}, p99 {}, last node {}, sent {}, received {}",
        snapshot.elapsed_ms as f64 / 1000.0,
        snapshot.height,
        snapshot
            .target
            .map(|target| format!(" of {target}"))
            .unwrap_or_default(),
        snapshot.nodes.len(),
        duration(latency.p50),
        duration(latency.p99),
        duration(latency.last),
        bytes(snapshot.totals.sent),
        bytes(snapshot.totals.received),
    )
}

/// A line for each node and one for the whole.
fn table(snapshot: &Snapshot) -> Vec<String> {
    let target = snapshot
        .target
        .map(|target| format!(" of {target}"))
        .unwrap_or_default();
    let mut lines = vec![format!(
        "channel {}  orderer at height {}{target}  {} s",
        snapshot.channel,
        snapshot.height,
        snapshot.elapsed_ms / 1000
    )];
    let width = snapshot
        .nodes
        .iter()
        .map(|node| node.name.len())
        .max()
        .unwrap_or(0);
    for node in snapshot.nodes.iter().take(TABLE_NODES_MAX) {
        lines.push(row(node, snapshot.height, width));
    }
    if let Some(rest @ 1..) = snapshot.nodes.len().checked_sub(TABLE_NODES_MAX) {
        lines.push(format!("  and {rest} more"));
    }
    let latency = &snapshot.latency;
    lines.push(format!(
        "cut to commit  p50 {}  p99 {}  max {}  last node {}",
        duration(latency.p50),
        duration(latency.p99),
        duration(latency.max),
        duration(latency.last),
    ));
    lines
}

fn row(node: &NodeView, top: u64, width: usize) -> String {
    const BAR: usize = 24;
    let filled = (BAR as u64)
        .saturating_mul(node.height)
        .checked_div(top)
        .unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(BAR).min(BAR);
    let state = match (node.alive, node.leader) {
        (false, _) => "stopped",
        (true, true) => "leads",
        (true, false) => "",
    };
    format!(
        "  {:width$}  {}{}  height {:>6}  members {:>2}  sent {:>8}  received {:>8}  {state}",
        node.name,
        "█".repeat(filled),
        "·".repeat(BAR - filled),
        node.height,
        node.members,
        bytes(node.sent),
        bytes(node.received),
    )
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Whether every node holds the same verified chain up to the target.
    pub(crate) ok: bool,
    /// What is wrong otherwise, one sentence each.
    pub(crate) problems: Vec<String>,
    /// Name of the channel.
    pub(crate) channel: String,
    /// Height of the orderer.
    pub(crate) height: u64,
    /// All nodes.
    pub(crate) nodes: Vec<NodeSummary>,
    /// From the orderer's cut to each node's commit.
    pub(crate) latency_ms: LatencySummary,
    /// Time from the start to the end.
    pub(crate) elapsed_ms: u64,
    /// Memory of this process, where the system tells.
    pub(crate) memory_bytes: MemorySummary,
}

/// A node at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeSummary {
    /// Its name.
    pub(crate) name: String,
    /// The MSP of its organization.
    pub(crate) org: String,
    /// Blocks that it holds.
    pub(crate) height: u64,
    /// Header hash of the last of them, in hex.
    pub(crate) last_block_hash: String,
    /// How they came.
    pub(crate) blocks: Ways,
    /// What went over the network.
    pub(crate) bytes: BytesSummary,
}

/// Bytes over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BytesSummary {
    /// To other nodes.
    pub(crate) sent: u64,
    /// From other nodes and the orderer.
    pub(crate) received: u64,
}

/// Latencies in milliseconds; nothing when no block came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// Half of all commits came sooner.
    pub(crate) p50: Option<f64>,
    /// 99 of 100 commits came sooner.
    pub(crate) p99: Option<f64>,
    /// The latest of all.
    pub(crate) max: Option<f64>,
}

/// Resident memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MemorySummary {
    /// When the orderer had cut 100 blocks.
    pub(crate) after_100_blocks: Option<u64>,
    /// At the end.
    pub(crate) end: Option<u64>,
    /// The most at any time.
    pub(crate) peak: Option<u64>,
}

impl Summary {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let width = self
            .nodes
            .iter()
            .map(|node| node.name.len())
            .max()
            .unwrap_or(0);
        for node in &self.nodes {
            let ways = node.blocks;
            let _ = writeln!(
                text,
                "{:width$}  {}  height {}  last block {}  stripe {} push {} pull {} transfer {} deliver {}  \
                 sent {} received {}",
                node.name,
                node.org,
                node.height,
                node.last_block_hash
                    .get(..16)
                    .unwrap_or(&node.last_block_hash),
                ways.stripe,
                ways.push,
                ways.pull,
                ways.transfer,
                ways.deliver,
                bytes(node.bytes.sent),
                bytes(node.bytes.received),
            );
        }
        let latency = self.latency_ms;
        let _ = writeln!(
            text,
            "cut to commit: p50 {}, p99 {}, max {}",
            duration(latency.p50),
            duration(latency.p99),
            duration(latency.max)
        );
        if let (Some(end), Some(peak)) = (self.memory_bytes.end, self.memory_bytes.peak) {
            let early = self
                .memory_bytes
                .after_100_blocks
                .map_or_else(String::new, |early| {
                    format!("{} after 100 blocks, ", bytes(early))
                });
            let _ = writeln!(
                text,
                "memory: {early}{} at the end, at most {}",
                bytes(end),
                bytes(peak)
            );
        }
        for problem in &self.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        if self.ok {
            let _ = writeln!(
                text,
                "All {} nodes hold the same verified chain of {} blocks.",
                self.nodes.len(),
                self.height
            );
        }
        text
    }
}

/// Resident memory of this process in bytes, as Linux tells it.
pub(crate) fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms >= 10_000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) if ms >= 100.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    }
}

/// So many bytes, for a person.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{LatencyView, Totals};
    use super::*;

    fn snapshot() -> Snapshot {
        let node = |name: &str, height, leader, alive| NodeView {
            name: name.into(),
            org: "Org1MSP".into(),
            height,
            leader,
            alive,
            members: 6,
            sent: 1_234_567,
            received: 999,
            blocks: Ways::default(),
        };
        Snapshot {
            channel: "demo".into(),
            elapsed_ms: 12_300,
            height: 40,
            target: Some(50),
            nodes: vec![
                node("peer0.org1", 40, true, true),
                node("peer1.org1", 20, false, false),
            ],
            latency: LatencyView {
                p50: Some(6.84),
                p99: Some(123.4),
                max: Some(12_345.0),
                last: None,
                recent: Vec::new(),
            },
            totals: Totals {
                transactions: 1,
                sent: 2_469_134,
                received: 1998,
            },
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_line_says_everything_without_a_terminal() {
        assert_eq!(
            line(&snapshot()),
            " 12.3 s  orderer at 40 of 50, nodes at 20..40, 1 of 2 up, members 6, p50 6.8 ms, \
             p99 123 ms, last node -, sent 2.5 MB, received 2.0 kB"
        );
    }

    #[test]
    fn the_table_has_a_row_for_each_node() {
        assert_eq!(
            table(&snapshot()),
            [
                "channel demo  orderer at height 40 of 50  12 s",
                "  peer0.org1  ████████████████████████  height     40  members  6  \
                 sent   1.2 MB  received    999 B  leads",
                "  peer1.org1  ████████████············  height     20  members  6  \
                 sent   1.2 MB  received    999 B  stopped",
                "cut to commit  p50 6.8 ms  p99 123 ms  max 12.3 s  last node -",
            ]
        );
    }

    #[test]
    fn many_nodes_do_not_flood_the_terminal() {
        let mut many = snapshot();
        many.nodes = vec![many.nodes[0].clone(); TABLE_NODES_MAX + 3];
        let lines = table(&many);
        assert_eq!(lines.len(), TABLE_NODES_MAX + 3);
        assert!(lines.iter().any(|line| line == "  and 3 more"));
    }

    #[test]
    fn the_summary_has_the_promised_shape() {
        let summary = Summary {
            ok: true,
            problems: Vec::new(),
            channel: "demo".into(),
            height: 20,
            nodes: vec![NodeSummary {
                name: "peer0.org1.demo".into(),
                org: "Org1MSP".into(),
                height: 20,
                last_block_hash: "ab".repeat(32),
                blocks: Ways {
                    stripe: 0,
                    push: 1,
                    pull: 2,
                    transfer: 3,
                    deliver: 4,
                },
                bytes: BytesSummary {
                    sent: 5,
                    received: 6,
                },
            }],
            latency_ms: LatencySummary {
                p50: Some(1.5),
                p99: Some(2.5),
                max: None,
            },
            elapsed_ms: 7,
            memory_bytes: MemorySummary::default(),
        };
        let expected = serde_json::json!({
            "ok": true, "problems": [], "channel": "demo", "height": 20,
            "nodes": [{
                "name": "peer0.org1.demo", "org": "Org1MSP", "height": 20,
                "last_block_hash": "ab".repeat(32),
                "blocks": {"stripe": 0, "push": 1, "pull": 2, "transfer": 3, "deliver": 4},
                "bytes": {"sent": 5, "received": 6},
            }],
            "latency_ms": {"p50": 1.5, "p99": 2.5, "max": null},
            "elapsed_ms": 7,
            "memory_bytes": {"after_100_blocks": null, "end": null, "peak": null},
        });
        assert_eq!(serde_json::to_value(&summary).unwrap(), expected);
        assert!(
            summary
                .text()
                .contains("All 1 nodes hold the same verified chain of 20 blocks.")
        );
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(
            [
                bytes(0),
                bytes(999),
                bytes(1000),
                bytes(999_999),
                bytes(u64::MAX)
            ],
            ["0 B", "999 B", "1.0 kB", "1.0 MB", "18446744.1 TB"]
        );
        assert_eq!(
            [None, Some(0.04), Some(99.94), Some(100.0), Some(10_000.0)].map(duration),
            ["-", "0.0 ms", "99.9 ms", "100 ms", "10.0 s"]
        );
    }
}
