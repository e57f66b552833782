//! Workload F: single operations, one after the other on one thread, without any network.
//!
//! What is remembered lately is never asked for unless the name of a figure says so: each message
//! and each identity is a new one.

mod crypto;
mod rounds;
mod stores;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::{
    cost::cpu,
    floor::Floor,
    report::{Figure, Tables},
};

/// How a run of workload F goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Micro {
    /// Milliseconds for which each operation is repeated.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) each_ms: u16,
    /// Messages and identities made beforehand: each is good for one time.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) samples: u16,
    /// Elements of the largest message store; smaller ones have a tenth, a hundredth and so on.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) elements: u32,
    /// Items in a pull round.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) items: u32,
}

impl Micro {
    /// Runs it.
    pub(crate) fn run(self, floor: &Floor) -> Result<Tables> {
        let each = Duration::from_millis(self.each_ms.into());
        let mut tables = Tables::default();
        let bench = crypto::Bench::new(self.samples)?;
        tables.put("signatures", bench.signatures(each, floor)?);
        tables.put("alive", bench.alive(floor)?);
        tables.put("identities", bench.identities(each, floor)?);
        for (name, size) in [
            ("block_1064", 1_064),
            ("block_32440", 32_440),
            ("block_261815", 261_815),
            ("block_1048245", 1_048_245),
        ] {
            tables.put(name, bench.block(size, each, floor)?);
        }
        for (name, part) in [
            ("store_thousandth", 1_000),
            ("store_hundredth", 100),
            ("store_tenth", 10),
            ("store", 1),
        ] {
            tables.put(name, stores::table(self.elements / part, each)?);
        }
        tables.put("pull", rounds::table(self.items, each)?);
        Ok(tables)
    }
}

/// Processor microseconds for each of these, done once.
fn for_each<T>(samples: Vec<T>, mut what: impl FnMut(T) -> Result<()>) -> Result<f64> {
    ensure!(!samples.is_empty(), "there is nothing to measure");
    let (len, spent) = (samples.len(), cpu());
    for sample in samples {
        what(sample)?;
    }
    Ok(cpu().saturating_sub(spent).as_secs_f64() * 1e6 / len as f64)
}

fn us(value: f64) -> Figure {
    Figure::new(value, "us")
}
