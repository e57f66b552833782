//! `tidings demo`: a whole network in this process, and what it shows.
//!
//! Makes or reads keys and a genesis block, starts a development orderer and full nodes on
//! loopback, lets blocks flow, shows it, and says at the end whether every node holds the same
//! verified chain. Everything lies in one folder and ends with the command.

pub(crate) mod alone;
mod arguments;
mod genesis;
mod keys;
mod latency;
pub(crate) mod load;
pub(crate) mod material;
mod network;
mod outcome;
mod page;
mod progress;
mod run;
#[cfg(test)]
pub(crate) mod sample;
mod setup;
mod snapshot;
mod source;
pub(crate) mod terminal;

use std::process::ExitCode;

use anyhow::{Context, Result};

pub(crate) use self::arguments::Arguments;

/// Runs the demo to its end.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Live lines are what the demo is for, so logs come only to those who ask.
    if let Ok(spec) = std::env::var("FABRIC_LOGGING_SPEC") {
        tidings_node::logging::start(&spec, false).context("FABRIC_LOGGING_SPEC")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let status = runtime.block_on(run::run(arguments));
    // Streams that clients hold open must not keep the program from ending.
    runtime.shutdown_background();
    status
}
