//! What workloads with blocks have in common: a network that has met and come to rest, and the
//! tables of what it costs to bring blocks to all of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tidings_gossip::{Source, VerifiedBlock};
use tokio::time::{interval, sleep};

use crate::{
    chain::Chain,
    cost::{Meter, Spent},
    floor::Floor,
    keys::Organization,
    network::{Counts, Network, Seats, channel},
    report::{Figure, Table, percentile},
};

/// Bytes of all blocks, which are kept in memory: ten times the largest run of the baseline.
const CHAIN_LEN_MAX: usize = 256 << 20;

/// The ways of a block to a receiver, under their names.
const WAYS: [(&str, Source); 4] = [
    ("push", Source::Push),
    ("pull", Source::Pull),
    ("stripe", Source::Stripe),
    ("transfer", Source::Transfer),
];

/// Makes the channel of a run, unless it is too much for the memory of a machine.
pub(crate) fn chain(org: &Organization, blocks: u16, size: u32) -> Result<Chain> {
    let (blocks, size) = (usize::from(blocks), usize::try_from(size)?);
    ensure!(
        size.saturating_mul(blocks) <= CHAIN_LEN_MAX,
        "{blocks} blocks of {size} bytes are more than {CHAIN_LEN_MAX} bytes; take fewer or smaller ones"
    );
    Chain::new(org, blocks, size)
}

/// What is to be set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: u16,
    pub(crate) fanout: u16,
    pub(crate) stripes: bool,
    pub(crate) blocks: u16,
    /// Bytes of each.
    pub(crate) size: u32,
    /// From when all are on the channel until the idle network is looked at.
    pub(crate) settle_s: f64,
    /// For so long.
    pub(crate) idle_s: f64,
    /// All must see all by then.
    pub(crate) limit_s: f64,
}

/// A network at rest.
pub(crate) struct Stage {
    plan: Plan,
    _home: TempDir,
    pub(crate) network: Network,
    block_len: f64,
    /// What it cost to do nothing.
    idle: Spent,
}

/// A stretch of time in which blocks were injected.
pub(crate) struct Phase {
    pub(crate) spent: Spent,
    pub(crate) counts: Counts,
    /// When each block was.
    pub(crate) injected: Vec<Instant>,
}

/// A phase that is not over.
pub(crate) struct Begun {
    meter: Meter,
    before: Counts,
    injected: Vec<Instant>,
}

impl Stage {
    /// Sets it, with the blocks that are to be injected.
    pub(crate) async fn set(plan: Plan) -> Result<(Self, Vec<VerifiedBlock>)> {
        let home = tempfile::tempdir()?;
        let org = Organization::new()?;
        let chain = chain(&org, plan.blocks, plan.size)?;
        let (block_len, offered) = (chain.block_len(), chain.offered);
        let nodes = usize::from(plan.nodes);
        let seats = Seats::new(&org, home.path(), nodes, chain.blocks).await?;
        let network = seats
            .with_fanout(plan.fanout.into())
            .with_stripes(plan.stripes)
            .start()
            .await?;
        let limit = Duration::from_secs_f64(plan.limit_s);
        network.meet(limit).await?;
        network.meet_on_channel(limit).await?;
        sleep(Duration::from_secs_f64(plan.settle_s)).await;
        let meter = Meter::start();
        sleep(Duration::from_secs_f64(plan.idle_s)).await;
        let stage = Self {
            plan,
            _home: home,
            network,
            block_len,
            idle: meter.spent(),
        };
        Ok((stage, offered))
    }

    /// From here on everything is counted.
    pub(crate) fn begin(&self) -> Begun {
        Begun {
            meter: Meter::start(),
            before: self.network.counts(),
            injected: Vec::with_capacity(self.plan.blocks.into()),
        }
    }

    /// Injects blocks at node 0 at this rate.
    pub(crate) async fn pace(&self, begun: &mut Begun, blocks: Vec<VerifiedBlock>, rate: f64) {
        let mut clock = interval(Duration::from_secs_f64(1.0 / rate));
        for block in blocks {
            clock.tick().await;
            self.inject(begun, block).await;
        }
    }

    /// Injects a block at node 0.
    pub(crate) async fn inject(&self, begun: &mut Begun, block: VerifiedBlock) {
        begun.injected.push(Instant::now());
        let first = &self.network.peers[0].node;
        first.offer(&channel(), block).await;
    }

    /// So far.
    pub(crate) fn end(&self, begun: Begun) -> Phase {
        Phase {
            spent: begun.meter.spent(),
            counts: self.network.counts().since(begun.before),
            injected: begun.injected,
        }
    }

    /// Waits until everybody has all blocks that were injected. False after this many seconds.
    pub(crate) async fn complete(&self, injected: usize, limit_s: f64) -> bool {
        let all = async {
            for peer in &self.network.peers {
                peer.shelf.reach(injected + 1).await;
            }
        };
        let limit = Duration::from_secs_f64(limit_s);
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Bytes of a block.
    pub(crate) fn block_len(&self) -> f64 {
        self.block_len
    }

    /// Blocks times receivers.
    pub(crate) fn deliveries(&self, blocks: usize) -> f64 {
        f64::from(self.plan.nodes - 1) * blocks as f64
    }

    /// What a phase cost and carried.
    pub(crate) fn cost(&self, phase: &Phase, floor: &Floor) -> Table {
        let Phase { spent, counts, .. } = phase;
        let (idle, block_len) = (self.idle, self.block_len);
        let deliveries = self.deliveries(phase.injected.len());
        let useful_mb = deliveries * block_len / 1e6;
        let redundancy = counts.block_bytes as f64 / 1e6 / useful_mb;
        let wire = counts.wire_bytes as f64 / 1e6 / useful_mb;
        let idle_s = if idle.wall_s > 0.0 {
            idle.cpu_s / idle.wall_s
        } else {
            0.0
        };
        let net_s = (spent.cpu_s - idle_s * spent.wall_s).max(0.0);
        let one_ms = floor.node_block_ms(block_len, 1.0);
        let same_ms = floor.node_block_ms(block_len, redundancy);
        let per_mb = one_ms * deliveries / 1e3 / useful_mb;
        let each_ms = net_s * 1e3 / deliveries;
        let idle_ms = idle_s * 1e3 / f64::from(self.plan.nodes);
        let wire_mb = counts.wire_bytes as f64 / 1e6;
        let carry_s = floor.carry_ms(1e6) / 1e3;
        let useful = |figure| Figure::new(figure, "useful bytes").over(1.0);
        let seconds = |figure: f64| Figure::new(figure, "s").over(per_mb);
        let mut table = Table::default();
        table.put("redundancy", useful(redundancy));
        table.put("wire", useful(wire));
        table.put("net_cpu_per_useful_mb", seconds(net_s / useful_mb));
        table.put("gross_cpu_per_useful_mb", seconds(spent.cpu_s / useful_mb));
        table.put(
            "net_cpu_per_node_block",
            Figure::new(each_ms, "ms").over(one_ms),
        );
        table.put(
            "net_cpu_per_node_block_same_copies",
            Figure::new(each_ms, "ms").over(same_ms),
        );
        table.put(
            "net_cpu_per_wire_mb",
            Figure::new(net_s / wire_mb, "s").over(carry_s),
        );
        table.put("idle_cpu_per_node_second", Figure::new(idle_ms, "ms"));
        table.put("overflow", Figure::new(counts.overflow as f64, "messages"));
        table.put("wall", Figure::new(spent.wall_s, "s").by_the_wall());
        table.put(
            "cores",
            Figure::new(spent.cpu_s / spent.wall_s, "cores").by_the_wall(),
        );
        table.put_others(*spent);
        table
    }

    /// By which way receivers first saw blocks, of which so many were injected.
    pub(crate) fn first_seen(&self, injected: usize) -> Table {
        self.shares(injected, |source| self.network.first_seen_by(source))
    }

    /// By which way those blocks came that receivers committed.
    pub(crate) fn committed(&self, injected: usize) -> Table {
        self.shares(injected, |source| self.network.committed_by(source))
    }

    fn shares(&self, injected: usize, count: impl Fn(Source) -> u64) -> Table {
        let deliveries = self.deliveries(injected);
        let share = |blocks: f64| Figure::new(blocks / deliveries, "of deliveries");
        let mut table = Table::default();
        let mut sum = 0.0;
        for (name, source) in WAYS {
            let blocks = count(source) as f64;
            sum += blocks;
            table.put(name, share(blocks));
        }
        table.put("never", share((deliveries - sum).max(0.0)));
        table
    }

    /// From the injection to the commit in order, at every node but the first.
    pub(crate) fn commit_latencies(&self, injected: &[Instant], floor: &Floor) -> Table {
        let mut times = Vec::new();
        for peer in self.network.peers.iter().skip(1) {
            for (then, now) in injected.iter().zip(peer.shelf.times()) {
                times.push(now.saturating_duration_since(*then));
            }
        }
        latencies(times, self.hop_ms(floor))
    }

    /// The least that a block takes to one node, which checks it.
    pub(crate) fn hop_ms(&self, floor: &Floor) -> f64 {
        floor.node_block_ms(self.block_len, 1.0)
    }

    /// Stops every node.
    pub(crate) async fn stop(self) {
        self.network.stop().await;
    }
}

/// Percentiles of times that are no shorter than this.
pub(crate) fn latencies(latencies: Vec<Duration>, hop_ms: f64) -> Table {
    let latencies = latencies.into_iter();
    let mut latencies: Vec<f64> = latencies.map(|each| each.as_secs_f64() * 1e3).collect();
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
