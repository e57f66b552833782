//! TLS against peers of every kind, over pipes and paused time.

pub(crate) mod certificates;
mod dialling;
mod settings;
mod shaking;
