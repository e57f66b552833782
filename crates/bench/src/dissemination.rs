//! Workload B: blocks at a modest rate from node 0 to all others; when each is committed, in
//! order, and what it costs to bring it there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use tidings_gossip::{Source, VerifiedBlock};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    bounds::{rate, seconds},
    chain::Chain,
    cost::{Meter, Spent},
    floor::Floor,
    keys::Organization,
    network::{Counts, Network, Seats, channel},
    report::{Figure, Table, Tables, percentile},
};

/// Bytes of all blocks, which are kept in memory: ten times the largest run of the baseline.
const CHAIN_LEN_MAX: usize = 256 << 20;

/// The push phase ends so long after the last injection.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How often it is looked whether all blocks are committed. Not measured.
const LOOK: Duration = Duration::from_millis(20);

/// How a run of workload B goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Dissemination {
    /// Nodes in the network.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=256))]
    pub(crate) nodes: u16,
    /// Bytes of a serialized block. The baseline has 1064, 32440, 261815 and 1048245.
    #[arg(long, default_value_t = 32_440, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) size: u32,
    /// Blocks a second.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Blocks.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) blocks: u16,
    /// Seconds from when all are on the channel until the idle network is looked at.
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub(crate) settle: f64,
    /// Seconds for which it is looked at: its cost is subtracted.
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub(crate) idle: f64,
    /// Seconds after the push phase in which what is missing may still come.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    pub(crate) drain: f64,
    /// Seconds within which all must see all.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    pub(crate) limit: f64,
}

/// The push phase.
struct Push {
    spent: Spent,
    counts: Counts,
    /// When each block was injected.
    injected: Vec<Instant>,
}

impl Dissemination {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let home = tempfile::tempdir()?;
        let org = Organization::new()?;
        let size = usize::try_from(self.size)?;
        let bytes = size.saturating_mul(self.blocks.into());
        ensure!(
            bytes <= CHAIN_LEN_MAX,
            "{} blocks of {size} bytes are more than {CHAIN_LEN_MAX} bytes; take fewer or smaller ones",
            self.blocks
        );
        let chain = Chain::new(&org, self.blocks.into(), size)?;
        let (block_len, offered) = (chain.block_len(), chain.offered);
        let nodes = usize::from(self.nodes);
        let seats = Seats::new(&org, home.path(), nodes, chain.blocks).await?;
        let network = seats.start().await?;
        let limit = Duration::from_secs_f64(self.limit);
        network.meet(limit).await?;
        network.meet_on_channel(limit).await?;
        sleep(Duration::from_secs_f64(self.settle)).await;
        let meter = Meter::start();
        sleep(Duration::from_secs_f64(self.idle)).await;
        let idle = meter.spent();
        let push = self.push(&network, offered).await;
        self.drain(&network).await;
        let mut tables = Tables::default();
        tables.put("push_phase", self.cost(&push, idle, block_len, floor));
        tables.put("deliveries", self.ways(&network));
        let hop_ms = floor.node_block_ms(block_len, 1.0);
        tables.put("commit", self.latencies(&network, &push.injected, hop_ms));
        network.stop().await;
        Ok(tables)
    }

    async fn push(&self, network: &Network, offered: Vec<VerifiedBlock>) -> Push {
        let mut clock = interval(Duration::from_secs_f64(1.0 / self.rate));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut injected = Vec::with_capacity(offered.len());
        let first = &network.peers[0].node;
        let channel = channel();
        let (meter, before) = (Meter::start(), network.counts());
        for block in offered {
            clock.tick().await;
            injected.push(Instant::now());
            first.offer(&channel, block).await;
        }
        sleep(AFTERMATH).await;
        Push {
            spent: meter.spent(),
            counts: network.counts().since(before),
            injected,
        }
    }

    /// Waits until everybody has all blocks, or for long enough.
    async fn drain(&self, network: &Network) {
        let wanted = usize::from(self.blocks) + 1;
        let until = Instant::now() + Duration::from_secs_f64(self.drain);
        let complete = || network.peers.iter().all(|peer| peer.shelf.len() >= wanted);
        while !complete() && Instant::now() < until {
            sleep(LOOK).await;
        }
    }

    fn deliveries(&self) -> f64 {
        f64::from(self.nodes - 1) * f64::from(self.blocks)
    }

    fn cost(&self, push: &Push, idle: Spent, block_len: f64, floor: &Floor) -> Table {
        let Push { spent, counts, .. } = push;
        let deliveries = self.deliveries();
        let useful_mb = deliveries * block_len / 1e6;
        let redundancy = counts.block_bytes as f64 / 1e6 / useful_mb;
        let wire = counts.wire_bytes as f64 / 1e6 / useful_mb;
        let net_s = (spent.cpu_s - idle.cpu_s / idle.wall_s * spent.wall_s).max(0.0);
        let one_ms = floor.node_block_ms(block_len, 1.0);
        let same_ms = floor.node_block_ms(block_len, redundancy);
        let per_mb = |ms: f64| ms * deliveries / 1e3 / useful_mb;
        let mut table = Table::default();
        table.put(
            "redundancy",
            Figure::new(redundancy, "useful bytes").over(1.0),
        );
        table.put("wire", Figure::new(wire, "useful bytes").over(1.0));
        table.put(
            "net_cpu_per_useful_mb",
            Figure::new(net_s / useful_mb, "s").over(per_mb(one_ms)),
        );
        table.put(
            "gross_cpu_per_useful_mb",
            Figure::new(spent.cpu_s / useful_mb, "s").over(per_mb(one_ms)),
        );
        let each_ms = net_s * 1e3 / deliveries;
        table.put(
            "net_cpu_per_node_block",
            Figure::new(each_ms, "ms").over(one_ms),
        );
        table.put(
            "net_cpu_per_node_block_same_copies",
            Figure::new(each_ms, "ms").over(same_ms),
        );
        let idle_ms = idle.cpu_s * 1e3 / idle.wall_s / f64::from(self.nodes);
        table.put("idle_cpu_per_node_second", Figure::new(idle_ms, "ms"));
        table.put("overflow", Figure::new(counts.overflow as f64, "messages"));
        table.put("wall", Figure::new(spent.wall_s, "s").by_the_wall());
        table.put_others(*spent);
        table
    }

    fn ways(&self, network: &Network) -> Table {
        let deliveries = self.deliveries();
        let mut table = Table::default();
        let mut committed = 0.0;
        for (name, source) in [
            ("push", Source::Push),
            ("pull", Source::Pull),
            ("transfer", Source::Transfer),
        ] {
            let blocks = network.committed_by(source) as f64;
            committed += blocks;
            table.put(name, Figure::new(blocks / deliveries, "of deliveries"));
        }
        let never = (deliveries - committed).max(0.0);
        table.put("never", Figure::new(never / deliveries, "of deliveries"));
        table
    }

    /// From the injection to the commit in order, at every node but the first.
    fn latencies(&self, network: &Network, injected: &[Instant], hop_ms: f64) -> Table {
        let mut latencies: Vec<f64> = Vec::new();
        for peer in network.peers.iter().skip(1) {
            for (then, now) in injected.iter().zip(peer.shelf.times()) {
                let latency = now.saturating_duration_since(*then);
                latencies.push(latency.as_secs_f64() * 1e3);
            }
        }
        latencies.sort_by(f64::total_cmp);
        let mut table = Table::default();
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            if let Some(latency) = percentile(&latencies, part) {
                let figure = Figure::new(latency, "ms").over(hop_ms).by_the_wall();
                table.put(name, figure);
            }
        }
        table
    }
}
