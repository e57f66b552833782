//! Workload C: as many blocks as go through, from node 0 to all others.
//!
//! Three kinds of load: `closed` keeps so many blocks under way as the slowest node allows;
//! `firehose` holds back for nobody but node 0 itself; `open` injects at a rate, whatever becomes
//! of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tidings_gossip::VerifiedBlock;
use tokio::time::{sleep, timeout};

use crate::{
    bounds::{rate, seconds},
    floor::Floor,
    report::{Figure, Table, Tables},
    stage::{Begun, Phase, Plan, Stage},
};

/// Node 0 takes a block that is so far ahead of its own ledger, where Fabric's `AddPayload` would
/// block: twice `blockBufferSize`.
const FIREHOSE_WINDOW: usize = 40;

/// What decides when the next block is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    /// The slowest node is at most `--window` behind (C1).
    Closed,
    /// Node 0 can take it (C2).
    Firehose,
    /// The clock: `--rate` for `--seconds` (C3).
    Open,
}

/// How a run of workload C goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Throughput {
    /// Nodes in the network.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) nodes: u16,
    /// What decides when the next block is injected.
    #[arg(long, value_enum, default_value_t = Load::Closed)]
    pub(crate) load: Load,
    /// Peers to whom each node pushes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) fanout: u16,
    /// Blocks go by stripes, which Fabric's peers do not know.
    #[arg(long)]
    pub(crate) stripes: bool,
    /// Bytes of a serialized block.
    #[arg(long, default_value_t = 32_440, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) size: u32,
    /// Blocks, if the load is not open.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) blocks: u16,
    /// Of a closed load: how far the slowest node may be behind.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(crate) window: u16,
    /// Of an open load: blocks a second.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Of an open load: for so long.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Of an open load: seconds after the last injection when it is looked at what was committed.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) aftermath: f64,
    /// Seconds from when all are on the channel until the idle network is looked at.
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub(crate) settle: f64,
    /// Seconds for which it is looked at: its cost is subtracted.
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub(crate) idle: f64,
    /// Seconds within which all must see all, and then have all blocks.
    #[arg(long, default_value_t = 150.0, value_parser = seconds)]
    pub(crate) limit: f64,
}

impl Throughput {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let plan = Plan {
            nodes: self.nodes,
            fanout: self.fanout,
            stripes: self.stripes,
            blocks: self.blocks_to_inject(),
            size: self.size,
            settle_s: self.settle,
            idle_s: self.idle,
            limit_s: self.limit,
        };
        let (stage, offered) = Stage::set(plan).await?;
        let mut begun = stage.begin();
        match self.load {
            Load::Open => {
                stage.pace(&mut begun, offered, self.rate).await;
                sleep(Duration::from_secs_f64(self.aftermath)).await;
            }
            Load::Closed | Load::Firehose => self.flood(&stage, &mut begun, offered).await?,
        }
        let phase = stage.end(begun);
        let injected = phase.injected.len();
        let mut tables = Tables::default();
        tables.put("throughput", self.speed(&stage, &phase));
        tables.put("cost", stage.cost(&phase, floor));
        tables.put("first_seen", stage.first_seen(injected));
        tables.put("deliveries", stage.committed(injected));
        tables.put("commit", stage.commit_latencies(&phase.injected, floor));
        stage.stop().await;
        Ok(tables)
    }

    fn blocks_to_inject(&self) -> u16 {
        match self.load {
            Load::Closed | Load::Firehose => self.blocks,
            // No more than there is memory for in any case.
            Load::Open => (self.rate * self.seconds).min(f64::from(u16::MAX)) as u16,
        }
    }

    /// Injects all blocks as fast as may be, and waits until everybody has them.
    async fn flood(
        &self,
        stage: &Stage,
        begun: &mut Begun,
        offered: Vec<VerifiedBlock>,
    ) -> Result<()> {
        let (until, count) = (
            Instant::now() + Duration::from_secs_f64(self.limit),
            offered.len(),
        );
        let inject = async {
            for (number, block) in (1_usize..).zip(offered) {
                let (behind, watched) = match self.load {
                    Load::Firehose => (FIREHOSE_WINDOW, 1),
                    Load::Closed | Load::Open => (usize::from(self.window), usize::MAX),
                };
                for peer in stage.network.peers.iter().take(watched) {
                    peer.shelf.reach(number.saturating_sub(behind)).await;
                }
                stage.inject(begun, block).await;
            }
        };
        let in_time = timeout(until.saturating_duration_since(Instant::now()), inject).await;
        let left = until.saturating_duration_since(Instant::now());
        if in_time.is_err() || !stage.complete(count, left.as_secs_f64()).await {
            let heights = stage.network.peers.iter().map(|peer| peer.shelf.len() - 1);
            let slowest = heights.min().unwrap_or_default();
            bail!(
                "the slowest node has {slowest} of {count} blocks after {} s; raise --limit or take fewer",
                self.limit
            );
        }
        Ok(())
    }

    /// How fast it went, by the slowest node.
    fn speed(&self, stage: &Stage, phase: &Phase) -> Table {
        let (injected, count) = (&phase.injected, phase.injected.len() as f64);
        let mut table = Table::default();
        let Some((first, last)) = injected.first().zip(injected.last()) else {
            return table;
        };
        let wall = |name, value, unit, table: &mut Table| {
            table.put(name, Figure::new(value, unit).by_the_wall());
        };
        let injecting_s = last.duration_since(*first).as_secs_f64();
        if injecting_s > 0.0 {
            let rate = (count - 1.0) / injecting_s;
            wall("injected_per_second", rate, "blocks", &mut table);
        }
        let committed = stage.network.peers.iter().skip(1);
        let shares = committed.clone().map(|peer| peer.shelf.len() - 1);
        let share = shares.sum::<usize>() as f64 / stage.deliveries(injected.len());
        table.put("committed", Figure::new(share, "of deliveries"));
        let ends = committed.filter_map(|peer| peer.shelf.times().last().copied());
        if let Some(end) = ends.max().filter(|_| self.load != Load::Open) {
            let rate = count / end.duration_since(*first).as_secs_f64();
            wall("committed_per_second", rate, "blocks", &mut table);
            let useful = rate * stage.block_len() / 1e6;
            wall("useful_per_second", useful, "MB", &mut table);
        }
        table
    }
}
