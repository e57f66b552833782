//! What it costs to know each other: an idle network of whole nodes, by number of nodes.
//!
//! Unlike the rest of the study this runs the nodes of [`World`]. Their toy signatures and
//! identities are shorter than real ones, so beside what was found stands what the formula gives
//! for messages of both lengths.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Result;
use serde::Serialize;
use tidings_proto::tag::Kind;
use tidings_sim::{World, secs};

use crate::in_parallel;

/// By when every node knows all others and speaks as seldom as it will. The longest common timer of
/// 256 nodes is two minutes.
const SETTLED_SECS: u64 = 150;

/// For how long it is measured.
const MEASURED_SECS: u64 = 150;

/// Those that an idle node sends, in the order of the table.
const KINDS: [Kind; 7] = [
    Kind::AliveMsg,
    Kind::MemRes,
    Kind::MemReq,
    Kind::StateSnapshot,
    Kind::StateInfoPullReq,
    Kind::DataDig,
    Kind::Hello,
];

/// What an idle node sends in a second.
#[derive(Serialize)]
struct Idle {
    nodes: usize,
    channels: usize,
    /// Bytes of envelopes, by kind.
    bytes: BTreeMap<String, f64>,
    /// Of all kinds.
    bytes_all: f64,
    messages: f64,
}

pub(crate) fn run(nodes: &[usize], channels: &[usize], seed: u64, json: bool) -> Result<String> {
    let pairs: Vec<(usize, usize)> = channels
        .iter()
        .flat_map(|channels| nodes.iter().map(|nodes| (*nodes, *channels)))
        .collect();
    let all = in_parallel(&pairs, |(nodes, channels)| idle(*nodes, *channels, seed));
    if json {
        return Ok(serde_json::to_string_pretty(&all)?);
    }
    let mut text = "bytes and messages sent by each node in a second\n| N | channels |".to_owned();
    let mut line = "\n|---|---|".to_owned();
    for kind in KINDS {
        let _ = write!(text, " {kind} |");
        line.push_str("---|");
    }
    let _ = writeln!(text, " all | messages | all / log2 N |{line}---|---|---|");
    for it in &all {
        let _ = write!(text, "| {} | {} |", it.nodes, it.channels);
        for kind in KINDS {
            let bytes = it.bytes.get(&kind.to_string()).copied().unwrap_or_default();
            let _ = write!(text, " {bytes:.0} |");
        }
        let each = it.bytes_all / (it.nodes as f64).log2();
        let _ = writeln!(
            text,
            " {:.0} | {:.1} | {each:.0} |",
            it.bytes_all, it.messages
        );
    }
    Ok(text)
}

fn idle(nodes: usize, channels: usize, seed: u64) -> Idle {
    let others = channels.saturating_sub(1);
    let mut world = World::new(seed).peers(nodes).idle_channels(others);
    world.blocks(2);
    world.run_for(secs(SETTLED_SECS));
    let before = world.stats().clone();
    world.run_for(secs(MEASURED_SECS));
    let after = world.stats();
    let rate = |count: u64| count as f64 / MEASURED_SECS as f64 / nodes as f64;
    let bytes = after.sent.iter().map(|(kind, traffic)| {
        let earlier = before.sent.get(kind).copied().unwrap_or_default();
        (kind.to_string(), rate(traffic.bytes - earlier.bytes))
    });
    Idle {
        nodes,
        channels,
        bytes: bytes.collect(),
        bytes_all: rate(after.bytes() - before.bytes()),
        messages: rate(after.messages() - before.messages()),
    }
}
