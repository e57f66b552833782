//! `tidings doctor` and `tidings peers` as an operator meets them: a network that is well, and one
//! fault after the other planted into it. Runs the built program; everything is on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../fabric/chain.rs"]
mod chain;
#[path = "../citizen/devnet.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod devnet;
mod faults;
#[path = "../fabric/gauge.rs"]
mod gauge;
mod genesis;
#[path = "../fabric/node.rs"]
mod node;
#[path = "../fabric/ports.rs"]
mod ports;
mod told;
#[path = "../citizen/update.rs"]
#[allow(dead_code, reason = "this target uses a part of it")]
mod update;
#[path = "../fabric/wait.rs"]
mod wait;
mod well;
