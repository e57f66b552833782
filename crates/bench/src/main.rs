//! `tidings-bench`: what nodes cost and how fast they are, beside the floor of the machine.
//!
//! Each command repeats one workload of the baseline that was measured with the Go implementation:
//! all nodes in this process, two worker threads, real TLS and gRPC, real P-256. A report in JSON
//! goes to standard output. Everything stays on loopback, on ports that the system gives. What the
//! figures mean: docs/bench.md.

mod bounds;
mod catch_up;
mod chain;
mod cost;
mod deliver;
mod dissemination;
mod floor;
mod keys;
mod membership;
mod micro;
mod network;
mod point_to_point;
mod report;
mod shelf;
mod stage;
mod throughput;

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};

use self::{
    catch_up::CatchUp,
    deliver::Deliver,
    dissemination::Dissemination,
    floor::Floor,
    membership::Membership,
    micro::Micro,
    point_to_point::PointToPoint,
    report::{Report, Tables},
    throughput::Throughput,
};

/// Worker threads, as the baseline had `GOMAXPROCS=2`.
const WORKERS: usize = 2;

/// Repeats the workloads of the baseline and says how far from the floor they end.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Milliseconds for which each figure of the floor is measured, before every workload.
    #[arg(long, global = true, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    floor_ms: u16,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Signatures, encryption, hashing and loopback on this machine, without any of our code.
    Floor,
    /// Workload A: nodes find each other, then nothing happens.
    #[command(visible_alias = "a")]
    Membership(Membership),
    /// Workload B: blocks at a modest rate to all nodes.
    #[command(visible_alias = "b")]
    Dissemination(Dissemination),
    /// Workload C: as many blocks as go through.
    #[command(visible_alias = "c")]
    Throughput(Throughput),
    /// Workload D: a new node gets a long chain.
    #[command(visible_alias = "d")]
    CatchUp(CatchUp),
    /// Workload E: messages over one connection, and handshakes.
    #[command(visible_alias = "e")]
    PointToPoint(PointToPoint),
    /// Workload F: single operations, without any network.
    #[command(visible_alias = "f")]
    Micro(Micro),
    /// Beside the baseline: clients that read the blocks of a running peer, ours or Go's.
    Deliver(Deliver),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    // On a worker like everything else, where Go's main goroutine would be: the thread that waits
    // here is a third one, and would have to be woken for each step of a load.
    let report = runtime.block_on(runtime.spawn(Box::pin(run(arguments))))??;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{report}").context("cannot write the report")
}

async fn run(arguments: Arguments) -> Result<String> {
    let each = Duration::from_millis(arguments.floor_ms.into());
    let floor = Floor::measure(each).await?;
    let (workload, settings, tables) = match arguments.command {
        Command::Floor => ("floor", Map::new(), Tables::default()),
        Command::Membership(it) => ("A", settings(&it)?, Box::pin(it.run(&floor)).await?),
        Command::Dissemination(it) => ("B", settings(&it)?, Box::pin(it.run(&floor)).await?),
        Command::Throughput(it) => ("C", settings(&it)?, Box::pin(it.run(&floor)).await?),
        Command::CatchUp(it) => ("D", settings(&it)?, Box::pin(it.run(&floor)).await?),
        Command::PointToPoint(it) => ("E", settings(&it)?, Box::pin(it.run(&floor)).await?),
        Command::Micro(it) => ("F", settings(&it)?, it.run(&floor)?),
        Command::Deliver(it) => ("deliver", settings(&it)?, Box::pin(it.run()).await?),
    };
    let report = Report {
        workload,
        settings,
        floor,
        tables,
    };
    Ok(serde_json::to_string_pretty(&report)?)
}

fn settings(of: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(of)? {
        Value::Object(settings) => Ok(settings),
        other => anyhow::bail!("settings have names, unlike {other}"),
    }
}
