//! A node among real Go peers and a real orderer, as `../shared/interop` runs them on loopback.
//!
//! Where that folder or `$FABRIC_BIN` is missing every test passes after saying so. One scenario
//! runs at a time, each in a network of its own; they take from half a minute to some minutes:
//!
//! ```text
//! FABRIC_BIN=... cargo test -p tidings --test fabric lives_beside_go_peers
//! ```
//!
//! What is measured is written to standard error in lines that begin with `MEASURED`. A failed
//! scenario leaves its folder with all logs and says where; with `TIDINGS_FABRIC_KEEP=1` they all
//! do. `TIDINGS_FABRIC_MINUTES` (1) is how long peace is watched, `TIDINGS_FABRIC_BLOCKS` (300) how
//! late latecomers are, `TIDINGS_FABRIC_KILLS` (10) how many nodes are killed, `TIDINGS_FABRIC_APPROVALS`
//! (20) how many chaincodes are approved where private data is looked at.
//! With `TIDINGS_FABRIC_CAPABILITIES=V2_0` the channel is one that programs of Fabric 2.5 take.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod blocks;
mod chain;
mod clients;
mod configuration;
mod crashes;
mod doctor;
mod fabnet;
mod gauge;
mod guests;
mod intruder;
mod late;
mod leaders;
mod membership;
mod newcomers;
mod node;
mod ports;
mod private;
mod private_asker;
mod private_late;
mod private_pull;
mod private_push;
mod private_reader;
mod refusals;
mod stripes;
mod update;
mod validity;
mod wait;
