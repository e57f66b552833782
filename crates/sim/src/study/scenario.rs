//! What a network of the study is like.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::millis;

/// When the first block is injected.
pub(super) const FIRST_BLOCK: Duration = millis(200);

/// Blocks at the beginning that are not measured.
pub(super) const WARM_UP: usize = 3;

/// Bytes around a block or a part of one.
pub(super) const HEADER: usize = 128;

/// What it costs to hand a message to the system, on any link.
pub(super) const SEND_COST: Duration = Duration::from_micros(20);

/// Where the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// In one room.
    Lan,
    /// At random points of a square that is 80 ms wide, and 20 ms from everything.
    Wan,
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "LAN",
            Self::Wan => "WAN",
        })
    }
}

/// So many nodes of a network, taken at random. The root is never among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
pub struct Crowd {
    /// The share of all nodes.
    pub share: f64,
}

impl Crowd {
    /// That share of all nodes.
    pub fn of(share: f64) -> Self {
        Self { share }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of nodes is one"
    )]
    pub(super) fn count(self, nodes: usize) -> usize {
        (self.share.clamp(0.0, 1.0) * nodes as f64).round() as usize
    }
}

/// One network, its load, and its trouble.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// Nodes, the root among them.
    pub nodes: usize,
    /// Bytes of a serialized block.
    pub size: usize,
    /// Where the nodes are.
    pub net: Net,
    /// From one block to the next.
    pub interval: Duration,
    /// Blocks, those of the warm-up among them.
    pub blocks: usize,
    /// What every link carries in a second, in each direction.
    pub bits_per_second: u64,
    /// The share of messages that get lost, silently.
    pub loss: f64,
    /// Nodes that crash, silently, at some time of the run.
    pub crashed: Crowd,
    /// Nodes whose uplink and processor are ten times slower.
    pub slow: Crowd,
    /// Nodes whose downlink carries only [`Self::thin_bits_per_second`].
    pub thin: Crowd,
    /// What a thin downlink carries in a second.
    pub thin_bits_per_second: u64,
    /// Everything random descends from it.
    pub seed: u64,
}

impl Scenario {
    /// A healthy network: 160 KB ten times a second over links of 1 Gbit/s.
    pub fn new(nodes: usize, net: Net) -> Self {
        Self {
            nodes,
            size: 160 * 1024,
            net,
            interval: millis(100),
            blocks: blocks_for(nodes),
            bits_per_second: 1_000_000_000,
            loss: 0.0,
            crashed: Crowd::default(),
            slow: Crowd::default(),
            thin: Crowd::default(),
            thin_bits_per_second: 10_000_000,
            seed: 1,
        }
    }

    /// Blocks of another size.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Another number of blocks.
    pub fn blocks(self, blocks: usize) -> Self {
        Self { blocks, ..self }
    }

    /// Other chances.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// How long a message of this size keeps a healthy uplink busy.
    pub fn send_time(&self, size: usize) -> Duration {
        SEND_COST + self.wire_time(size)
    }

    /// How long this many bytes take on a link.
    pub(super) fn wire_time(&self, size: usize) -> Duration {
        bits(size, self.bits_per_second)
    }
}

/// How long this many bytes take at this speed.
pub(super) fn bits(size: usize, per_second: u64) -> Duration {
    let nanos = (size as u64).saturating_mul(8_000_000_000) / per_second.max(1);
    Duration::from_nanos(nanos)
}

/// What a node does with a message of this size, but for checking signatures.
pub(super) fn processing(size: usize) -> Duration {
    Duration::from_micros(100) + Duration::from_nanos(size as u64)
}

/// What it takes to check the signatures of a block.
pub(super) const CHECKING: Duration = Duration::from_micros(300);

/// As many as make a steady mean, and can be waited for.
fn blocks_for(nodes: usize) -> usize {
    match nodes {
        0..=400 => 200,
        401..=4000 => 30,
        _ => 6,
    }
}
