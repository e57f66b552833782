//! The node around the gossip core: sockets, files, clocks and threads.
//!
//! A message goes one way: [`comm`] takes it from a socket, [`intake`] checks it (in parallel,
//! cached), the [`driver`] hands it to the one [`tidings_gossip::Node`] and does the effects that
//! come out; blocks go to [`commit`]. Nothing here decides what the protocol does.

pub mod comm;
pub mod logging;
pub mod metrics;
pub mod tls;
pub mod commit;
pub mod crypto;
pub mod intake;
pub mod msp_folder;
pub mod service;
pub mod status;
mod deliver;
mod driver;
mod serve;
