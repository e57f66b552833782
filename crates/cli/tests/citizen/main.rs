//! A node as a citizen of a channel, among nodes of its kind and with the development orderer.
//!
//! The scenarios are those of the target `fabric`, which needs Go peers; here every process is
//! ours, and the timers are shorter than an operator would have them. A scenario that fails leaves
//! its folder with all logs and says where.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod blocks;
#[path = "../fabric/chain.rs"]
mod chain;
mod configuration;
mod devnet;
#[path = "../fabric/gauge.rs"]
mod gauge;
#[path = "../fabric/intruder.rs"]
mod intruder;
mod leaders;
#[path = "../fabric/node.rs"]
mod node;
#[path = "../fabric/ports.rs"]
mod ports;
mod refusals;
mod update;
#[path = "../fabric/wait.rs"]
mod wait;
