//! The study of dissemination: its tables, its trials and its pictures, each by one command.
//!
//! `docs/dissemination.md` shows what comes out and says how to read it.

mod pictures;
mod plot;
mod row;
mod scale;
mod single;
mod trial;

use std::{
    io::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, builder::RangedU64ValueParser};
use serde::Serialize;

use row::Table;
use single::Single;
use trial::Trial;

#[derive(Parser, Debug)]
#[command(
    version,
    about = "How fast and at what price blocks reach all: three ways, one model"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What everything random descends from.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// JSON in place of tables.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Times and bytes of the three ways without trouble, and what is required of stripes.
    Table {
        /// Numbers of nodes.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
        nodes: Vec<usize>,
    },
    /// Stripes in trouble: loss, crashes, slow nodes, overload, and what is required then.
    Trials,
    /// Pictures, as SVG.
    Plots {
        /// The folder that they are written to.
        #[arg(long, default_value = "docs/dissemination")]
        out: PathBuf,
    },
    /// What membership and state infos cost an idle node among its like, by numbers of nodes.
    Scale {
        /// Numbers of nodes.
        #[arg(long, value_delimiter = ',', default_values_t = [8, 16, 32, 64, 256],
            value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
        nodes: Vec<usize>,
        /// Numbers of channels that all of them are on.
        #[arg(long, value_delimiter = ',', default_values_t = [1],
            value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
        channels: Vec<usize>,
    },
    /// A single run.
    One(Single),
}

/// What the table and the trials gave.
#[derive(Serialize)]
struct Report {
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trials: Vec<Trial>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Arguments { seed, json, .. } = arguments;
    let text = match arguments.command {
        Some(Command::Plots { out }) => pictures::write(&out, seed)?,
        Some(Command::Scale { nodes, channels }) => scale::run(&nodes, &channels, seed, json)?,
        Some(Command::One(single)) => single.run(seed, json)?,
        Some(Command::Table { nodes }) => {
            show(Some(row::run(&nodes, seed)), Vec::new(), seed, json)?
        }
        Some(Command::Trials) => show(None, trial::run(seed), seed, json)?,
        None => show(
            Some(row::run(&[100, 1000], seed)),
            trial::run(seed),
            seed,
            json,
        )?,
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).context("cannot write the report")
}

fn show(table: Option<Table>, trials: Vec<Trial>, seed: u64, json: bool) -> Result<String> {
    if json {
        let report = Report {
            seed,
            table,
            trials,
        };
        return Ok(serde_json::to_string_pretty(&report)?);
    }
    let mut text = table.map(|table| table.to_string()).unwrap_or_default();
    text.push_str(&trial::show(&trials));
    Ok(text)
}

/// Does independent jobs on all cores; what comes out is in their order.
fn in_parallel<J: Sync, T: Send>(jobs: &[J], run: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match jobs.get(index) {
                Some(job) => done.push((index, run(job))),
                None => return done,
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let results = handles.into_iter().map(|handle| match handle.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A time, as a number for people.
fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
