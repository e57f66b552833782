//! Workload A: how long nodes take to find each other, and what they cost while nothing happens.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    bounds::seconds,
    chain::Chain,
    cost::{Meter, Spent, resident_mb},
    floor::Floor,
    keys::Organization,
    network::{Counts, Network, Seats},
    report::{Figure, Table, Tables},
};

/// Alive messages come at this interval from everybody.
const ALIVE_INTERVAL_S: f64 = 5.0;

/// How a run of workload A goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Membership {
    /// Nodes in the network.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=256))]
    pub(crate) nodes: u16,
    /// Seconds from when all see all until the idle network is looked at.
    #[arg(long, default_value_t = 15.0, value_parser = seconds)]
    pub(crate) settle: f64,
    /// Seconds for which the idle network is looked at.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    pub(crate) idle: f64,
    /// Seconds within which all must see all.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    pub(crate) limit: f64,
}

impl Membership {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let home = tempfile::tempdir()?;
        let org = Organization::new()?;
        let chain = Chain::new(&org, 0, 0)?;
        let nodes = usize::from(self.nodes);
        let seats = Seats::new(&org, home.path(), nodes, chain.blocks).await?;
        let limit = Duration::from_secs_f64(self.limit);
        let (resident, meter) = (resident_mb(), Meter::start());
        let network = seats.start().await?;
        network.meet(limit).await?;
        let (spent, counts) = (meter.spent(), network.counts());
        let messages = self.messages_table(&network);
        network.meet_on_channel(limit).await?;
        let channel_s = meter.spent().wall_s;
        let mut join = self.join_table(spent, counts, floor, &network);
        join.put("channel_view", Figure::new(channel_s, "s").by_the_wall());
        let grown = resident_mb().zip(resident).map(|(now, then)| now - then);
        if let Some(grown) = grown {
            join.put(
                "rss_per_node",
                Figure::new(grown / f64::from(self.nodes), "MB"),
            );
        }
        tokio::time::sleep(Duration::from_secs_f64(self.settle)).await;
        let (meter, before) = (Meter::start(), network.counts());
        tokio::time::sleep(Duration::from_secs_f64(self.idle)).await;
        let (spent, counts) = (meter.spent(), network.counts().since(before));
        let idle = self.idle_table(spent, counts, floor);
        network.stop().await;
        let mut tables = Tables::default();
        tables.put("join", join);
        tables.put("join_messages", messages);
        tables.put("idle", idle);
        Ok(tables)
    }

    fn join_table(&self, spent: Spent, counts: Counts, floor: &Floor, network: &Network) -> Table {
        let nodes = f64::from(self.nodes);
        let pairs = nodes * (nodes - 1.0) / 2.0;
        // Every pair connects once, and everybody checks one alive message of everybody else.
        let floor_ms = pairs * floor.connection_ms() + floor.alive_ms(2.0 * pairs);
        let identities = network.peers.iter();
        let identities = identities.map(|peer| peer.node.me().identity.serialized.len());
        let identity_len = identities.sum::<usize>() as f64 / nodes;
        let told = (nodes - 1.0) * (identity_len + alive_len(counts));
        let each = |count: u64| count as f64 / nodes;
        let mut table = Table::default();
        let cores = 2.0;
        table.put(
            "converged",
            Figure::new(spent.wall_s, "s")
                .over(floor_ms / 1e3 / cores)
                .by_the_wall(),
        );
        table.put(
            "cpu_total",
            Figure::new(spent.cpu_s, "s").over(floor_ms / 1e3),
        );
        table.put(
            "cpu_per_node",
            Figure::new(spent.cpu_s / nodes, "s").over(floor_ms / 1e3 / nodes),
        );
        table.put(
            "messages_per_node",
            Figure::new(each(counts.messages), "messages"),
        );
        table.put(
            "payload_per_node",
            Figure::new(each(counts.payload_bytes), "B").over(told),
        );
        table.put(
            "wire_per_node",
            Figure::new(each(counts.wire_bytes), "B").over(told),
        );
        table.put(
            "connections_accepted",
            Figure::new(counts.accepted as f64, "connections").over(pairs),
        );
        table.put_others(spent);
        table
    }

    /// What a node received until all saw all, by kind.
    fn messages_table(&self, network: &Network) -> Table {
        let mut table = Table::default();
        for (kind, count) in network.kinds() {
            if count > 0 {
                let each = count as f64 / f64::from(self.nodes);
                table.put(kind, Figure::new(each, "messages"));
            }
        }
        table
    }

    fn idle_table(&self, spent: Spent, counts: Counts, floor: &Floor) -> Table {
        let nodes = f64::from(self.nodes);
        let each = |count: f64| count / nodes / spent.wall_s;
        // Everybody hears of everybody else once in an interval, and checks it.
        let alive = (nodes - 1.0) / ALIVE_INTERVAL_S;
        let told = alive * alive_len(counts);
        let mut table = Table::default();
        table.put(
            "cpu_per_node_second",
            Figure::new(each(spent.cpu_s * 1e3), "ms").over(floor.alive_ms(alive)),
        );
        table.put(
            "messages_per_node_second",
            Figure::new(each(counts.messages as f64), "messages").over(alive),
        );
        table.put(
            "payload_per_node_second",
            Figure::new(each(counts.payload_bytes as f64), "B").over(told),
        );
        table.put(
            "wire_per_node_second",
            Figure::new(each(counts.wire_bytes as f64), "B").over(told),
        );
        table.put_others(spent);
        table
    }
}

/// Bytes of an alive message, on the average; 0 before any came.
fn alive_len(counts: Counts) -> f64 {
    counts.alive_bytes as f64 / counts.alive_messages.max(1) as f64
}
