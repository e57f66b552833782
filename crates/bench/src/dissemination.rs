//! Workload B: blocks at a modest rate from node 0 to all others; when each is first seen and when
//! it is committed, in order, and what it costs to bring it there.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidings_gossip::Source;
use tidings_node::commit::Committed;
use tokio::{sync::broadcast, task::JoinSet, time::sleep};

use crate::{
    bounds::{rate, seconds},
    floor::Floor,
    report::Tables,
    stage::{Plan, Stage, latencies},
};

/// The push phase ends so long after the last injection.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How a run of workload B goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Dissemination {
    /// Nodes in the network.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=256))]
    pub(crate) nodes: u16,
    /// Bytes of a serialized block. The baseline has 1064, 32440, 261815 and 1048245.
    #[arg(long, default_value_t = 32_440, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) size: u32,
    /// Peers to whom each node pushes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) fanout: u16,
    /// Blocks go by stripes, which Fabric's peers do not know.
    #[arg(long)]
    pub(crate) stripes: bool,
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

/// A block at a receiver.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// Counted from 0.
    block: usize,
    source: Source,
    seen_at: Instant,
}

impl Dissemination {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let plan = Plan {
            nodes: self.nodes,
            fanout: self.fanout,
            stripes: self.stripes,
            blocks: self.blocks,
            size: self.size,
            settle_s: self.settle,
            idle_s: self.idle,
            limit_s: self.limit,
        };
        let (stage, offered) = Stage::set(plan).await?;
        let mut watchers = JoinSet::new();
        for peer in stage.network.peers.iter().skip(1) {
            watchers.spawn(watch(peer.node.committed()));
        }
        let mut begun = stage.begin();
        stage.pace(&mut begun, offered, self.rate).await;
        sleep(AFTERMATH).await;
        let phase = stage.end(begun);
        stage.complete(self.blocks.into(), self.drain).await;
        let mut tables = Tables::default();
        tables.put("push_phase", stage.cost(&phase, floor));
        tables.put("first_seen", stage.first_seen(self.blocks.into()));
        tables.put("deliveries", stage.committed(self.blocks.into()));
        let (injected, hop_ms) = (&phase.injected, stage.hop_ms(floor));
        let commit = stage.commit_latencies(injected, floor);
        // What is watched ends with the nodes.
        stage.stop().await;
        let sights: Vec<Sight> = watchers.join_all().await.into_iter().flatten().collect();
        let since = |only: Option<Source>| {
            let sights = sights.iter();
            let sights = sights.filter(|sight| only.is_none_or(|only| sight.source == only));
            let times = sights.filter_map(|sight| {
                let then = injected.get(sight.block)?;
                Some(sight.seen_at.saturating_duration_since(*then))
            });
            times.collect()
        };
        tables.put("sight", latencies(since(None), hop_ms));
        let push = since(Some(Source::Push));
        tables.put("sight_by_push", latencies(push, hop_ms));
        tables.put("commit", commit);
        Ok(tables)
    }
}

/// When and how each block was first seen, from now until the node goes down. One that was too far
/// ahead to be noted counts as seen when it was committed.
async fn watch(mut committed: broadcast::Receiver<Committed>) -> Vec<Sight> {
    let mut sights = Vec::new();
    loop {
        match committed.recv().await {
            Ok(it) => sights.push(Sight {
                block: usize::try_from(it.number)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(1),
                source: it.source,
                seen_at: it.seen_at.unwrap_or(it.at),
            }),
            // Some are left out of the figures.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return sights,
        }
    }
}
