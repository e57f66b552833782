//! Whether a demo came to a good end.
//!
//! Promises: a node is good only if its ledger, read from disk after the node has stopped, is
//! whole and signed and ends in the same block as the orderer's. What nodes said of themselves
//! while they ran counts for nothing here.

use std::path::PathBuf;

use crate::commands::ledger;
use crate::complaint::in_one_line;

use super::snapshot::Snapshot;
use super::terminal::{BytesSummary, LatencySummary, MemorySummary, NodeSummary, Summary};

/// The orderer's end of the chain.
pub(crate) struct Truth {
    /// Its height.
    pub(crate) height: u64,
    /// The hash of its last header in hex.
    pub(crate) last_hash: String,
}

/// Judges the ledgers of all nodes, in the order of the nodes of the snapshot.
pub(crate) fn judge(
    last: &Snapshot,
    truth: &Truth,
    ledgers: &[PathBuf],
    mut problems: Vec<String>,
    memory_bytes: MemorySummary,
) -> Summary {
    let unfinished = !problems.is_empty();
    let mut nodes = Vec::new();
    for (node, dir) in last.nodes.iter().zip(ledgers) {
        let (height, last_block_hash) = match ledger::verify(dir) {
            Ok(report) => (report.height, report.last_block_hash),
            Err(error) => {
                problems.push(format!("{}: {}", node.name, in_one_line(&error)));
                (0, String::new())
            }
        };
        if unfinished {
            // Why the run was cut short is known; who was how far then says nothing new.
        } else if height != truth.height {
            let want = truth.height;
            problems.push(format!(
                "{} holds {height} blocks, the orderer {want}",
                node.name
            ));
        } else if last_block_hash != truth.last_hash {
            problems.push(format!(
                "{} ends in another block than the orderer",
                node.name
            ));
        }
        nodes.push(NodeSummary {
            name: node.name.clone(),
            org: node.org.clone(),
            height,
            last_block_hash,
            blocks: node.blocks,
            bytes: BytesSummary {
                sent: node.sent,
                received: node.received,
            },
        });
    }
    let latency = &last.latency;
    Summary {
        ok: problems.is_empty(),
        problems,
        channel: last.channel.clone(),
        height: truth.height,
        nodes,
        latency_ms: LatencySummary {
            p50: latency.p50,
            p99: latency.p99,
            max: latency.max,
        },
        elapsed_ms: last.elapsed_ms,
        memory_bytes,
    }
}
