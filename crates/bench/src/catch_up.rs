//! Workload D: a node that starts with nothing gets a long chain from those who have it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{
    bounds::seconds,
    cost::{Meter, Spent},
    floor::Floor,
    keys::Organization,
    network::{Counts, Network, Seats},
    report::{Figure, Table, Tables},
    stage::chain,
};

/// How a run of workload D goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct CatchUp {
    /// Nodes that have all blocks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) sources: u16,
    /// Blocks.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(crate) blocks: u16,
    /// Bytes of a serialized block.
    #[arg(long, default_value_t = 9_907, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) size: u32,
    /// Seconds from when the sources see each other until the new node starts.
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub(crate) settle: f64,
    /// Seconds within which the sources must see each other, and the new node have all blocks.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    pub(crate) limit: f64,
}

/// When what happened to the new node.
struct Course {
    began: Instant,
    /// It knew of somebody on the channel; none if it began to get blocks before that showed.
    met: Option<Instant>,
    commits: Vec<Instant>,
}

impl CatchUp {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let home = tempfile::tempdir()?;
        let org = Organization::new()?;
        let chain = chain(&org, self.blocks, self.size)?;
        let block_len = chain.block_len();
        let nodes = usize::from(self.sources) + 1;
        let seats = Seats::new(&org, home.path(), nodes, chain.blocks).await?;
        let (mut network, latecomer) = seats.start_sources().await?;
        let limit = Duration::from_secs_f64(self.limit);
        network.meet(limit).await?;
        network.meet_on_channel(limit).await?;
        sleep(Duration::from_secs_f64(self.settle)).await;
        let (meter, before, began) = (Meter::start(), network.counts(), Instant::now());
        latecomer.start(&mut network).await?;
        let course = self.follow(&network, began).await?;
        let (spent, counts) = (meter.spent(), network.counts().since(before));
        network.stop().await;
        let mut tables = Tables::default();
        tables.put("course", self.speed(&course, block_len)?);
        tables.put("cost", self.cost(spent, counts, block_len, floor));
        Ok(tables)
    }

    async fn follow(&self, network: &Network, began: Instant) -> Result<Course> {
        let newcomer = network.peers.last().context("there is a new node")?;
        let wanted = usize::from(self.blocks) + 1;
        let mut status = newcomer.node.status();
        let meet = async {
            let met = status.wait_for(|status| {
                let mut channels = status.channels.iter();
                channels.any(|channel| !channel.peers.is_empty())
            });
            if met.await.is_ok() {
                Some(Instant::now())
            } else {
                None
            }
        };
        let all = async { tokio::join!(meet, newcomer.shelf.reach(wanted)) };
        let limit = Duration::from_secs_f64(self.limit);
        let Ok((met, ())) = timeout(limit, all).await else {
            let len = newcomer.shelf.len() - 1;
            bail!(
                "the new node has {len} of {} blocks after {limit:?}; raise --limit",
                self.blocks
            );
        };
        Ok(Course {
            began,
            met,
            commits: newcomer.shelf.times(),
        })
    }

    fn speed(&self, course: &Course, block_len: f64) -> Result<Table> {
        let (first, last) = course
            .commits
            .first()
            .zip(course.commits.last())
            .context("there is a block")?;
        let mut table = Table::default();
        let mut put = |name, value: f64, unit| {
            table.put(name, Figure::new(value, unit).by_the_wall());
        };
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        put("first_commit", since(course.began, *first), "s");
        if let Some(met) = course.met {
            put("met", since(course.began, met), "s");
            put("first_commit_since_met", since(met, *first), "s");
        }
        put("last_commit", since(course.began, *last), "s");
        let took_s = since(*first, *last);
        if took_s > 0.0 {
            let rate = f64::from(self.blocks) / took_s;
            put("blocks_per_second", rate, "blocks");
            put("useful_per_second", rate * block_len / 1e6, "MB");
        }
        Ok(table)
    }

    fn cost(&self, spent: Spent, counts: Counts, block_len: f64, floor: &Floor) -> Table {
        let blocks = f64::from(self.blocks);
        let floor_ms = floor.node_block_ms(block_len, 1.0);
        let wire = counts.wire_bytes as f64 / (blocks * block_len);
        let mut table = Table::default();
        table.put(
            "cpu_total",
            Figure::new(spent.cpu_s, "s").over(floor_ms * blocks / 1e3),
        );
        table.put(
            "cpu_per_block",
            Figure::new(spent.cpu_s * 1e3 / blocks, "ms").over(floor_ms),
        );
        let requests = counts.state_requests as f64;
        table.put("requests", Figure::new(requests, "messages"));
        table.put("wire", Figure::new(wire, "useful bytes").over(1.0));
        table.put(
            "cores",
            Figure::new(spent.cpu_s / spent.wall_s, "cores").by_the_wall(),
        );
        table.put_others(spent);
        table
    }
}
