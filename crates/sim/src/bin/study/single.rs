//! One run as it is described on the command line.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tidings_sim::study::{
    Crowd, Fanout, Net, Outcome, PlainDelivery, Scenario, Stripe, Way, floor,
};

use crate::ms;

/// More have never been tried; a run keeps a byte for each block and node.
const NODES_MAX: usize = 20_000;

/// A run keeps a byte for each block and node.
const BLOCKS_MAX: usize = 10_000;

#[derive(Args, Debug)]
pub(crate) struct Single {
    /// How blocks are spread.
    #[arg(long, default_value = "stripe")]
    way: Spread,
    /// Nodes.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Where they are.
    #[arg(long, default_value = "lan")]
    net: Place,
    /// KiB of a block.
    #[arg(long, default_value_t = 160)]
    kb: usize,
    /// Blocks a second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Blocks; by default as many as make a steady mean.
    #[arg(long)]
    blocks: Option<usize>,
    /// Mbit/s of every link.
    #[arg(long, default_value_t = 1000)]
    mbit: u64,
    /// Share of messages that get lost.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Share of nodes that crash.
    #[arg(long, default_value_t = 0.0)]
    crashed: f64,
    /// Share of slow nodes.
    #[arg(long, default_value_t = 0.0)]
    slow: f64,
    /// Share of nodes with a downlink of 10 Mbit/s.
    #[arg(long, default_value_t = 0.0)]
    thin: f64,
    /// Parity stripes.
    #[arg(long, default_value_t = 0)]
    parity: u8,
    /// A stripe whose chunks are lost everywhere, but for those that were asked for.
    #[arg(long)]
    suppressed: Option<u8>,
    /// Share of plain peers.
    #[arg(long, default_value_t = 0.0)]
    plain: f64,
    /// Plain peers are given blocks to push on.
    #[arg(long)]
    push: bool,
    /// Share of nodes that know only the view before the last.
    #[arg(long, default_value_t = 0.0)]
    outdated: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spread {
    Fabric,
    EnhancedTwo,
    EnhancedFour,
    Stripe,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    Lan,
    Wan,
}

#[derive(Serialize)]
struct Report {
    scenario: Scenario,
    way: Way,
    floor_ms: f64,
    outcome: Outcome,
}

impl Single {
    pub(crate) fn run(&self, seed: u64, json: bool) -> Result<String> {
        let scenario = self.scenario(seed)?;
        let way = self.way();
        let report = Report {
            floor_ms: ms(floor(&scenario)),
            outcome: scenario.run(way),
            scenario,
            way,
        };
        if json {
            return Ok(serde_json::to_string_pretty(&report)?);
        }
        let it = &report.outcome;
        Ok(format!(
            "time to all: mean {:.2} ms, median {:.2} ms, worst {:.2} ms; to half {:.2} ms; floor {:.2} ms\n\
             bytes {:.3} blocks per node and block; root {:.2}, busiest {:.2}; {:.1} messages; never arrived {}",
            ms(it.to_all),
            ms(it.to_all_median),
            ms(it.to_all_worst),
            ms(it.to_half),
            report.floor_ms,
            it.bytes,
            it.root,
            it.busiest,
            it.messages,
            it.never,
        ))
    }

    fn scenario(&self, seed: u64) -> Result<Scenario> {
        ensure!(
            (2..=NODES_MAX).contains(&self.nodes),
            "2 to {NODES_MAX} nodes"
        );
        ensure!(
            self.rate > 0.0 && self.rate <= 1e6,
            "above 0 to 1000000 blocks a second"
        );
        ensure!((1..=64 * 1024).contains(&self.kb), "1 to 65536 KiB");
        ensure!(self.mbit > 0, "links must carry something");
        for share in [
            self.loss,
            self.crashed,
            self.slow,
            self.thin,
            self.plain,
            self.outdated,
        ] {
            ensure!((0.0..1.0).contains(&share), "shares are from 0 to below 1");
        }
        let net = match self.net {
            Place::Lan => Net::Lan,
            Place::Wan => Net::Wan,
        };
        let scenario = Scenario::new(self.nodes, net)
            .size(self.kb * 1024)
            .seed(seed);
        let blocks = self.blocks.unwrap_or(scenario.blocks);
        ensure!(
            (4..=BLOCKS_MAX).contains(&blocks),
            "4 to {BLOCKS_MAX} blocks: three are a warm-up"
        );
        Ok(Scenario {
            interval: Duration::from_secs_f64(1.0 / self.rate),
            blocks,
            bits_per_second: self.mbit.saturating_mul(1_000_000),
            loss: self.loss,
            crashed: Crowd::of(self.crashed),
            slow: Crowd::of(self.slow),
            thin: Crowd::of(self.thin),
            ..scenario
        })
    }

    fn way(&self) -> Way {
        match self.way {
            Spread::Fabric => Way::Fabric,
            Spread::EnhancedTwo => Way::Enhanced(Fanout::Two),
            Spread::EnhancedFour => Way::Enhanced(Fanout::Four),
            Spread::Stripe => Way::Stripe(Stripe {
                parity: self.parity.min(1),
                suppressed: self.suppressed,
                plain: Crowd::of(self.plain),
                delivery: if self.push {
                    PlainDelivery::Push
                } else {
                    PlainDelivery::Quiet
                },
                outdated: Crowd::of(self.outdated),
            }),
        }
    }
}
