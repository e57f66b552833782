//! The node around the gossip core: sockets, files, clocks and threads.
//!
//! A message goes one way: [`comm`] takes it from a socket, [`intake`] checks it (in parallel,
//! cached), the `driver` hands it to the one [`tidings_gossip::Node`] and does the effects that
//! come out; blocks go to [`commit`]. Nothing here decides what the protocol does.

mod catch_up;
pub mod clients;
pub mod comm;
pub mod commit;
pub mod core_config;
pub mod crypto;
mod deliver;
pub mod directory;
mod driver;
mod failed;
pub mod health;
pub mod history;
pub mod intake;
pub mod logging;
pub mod metrics;
pub mod msp_folder;
pub mod operations;
pub mod outlook;
pub mod private;
mod reads;
pub mod reception;
mod routine;
pub mod serve;
pub mod service;
pub mod status;
mod stripes;
pub mod tls;
pub mod validity;
pub mod view;
pub mod vitals;
pub mod web;

#[cfg(test)]
use commit::tests::material;
