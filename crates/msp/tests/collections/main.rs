//! Collections as a whole: who may have private data, which collections there are, and whether
//! their definitions were agreed to, on material of our own and on what real peers recorded.

#![expect(
    clippy::unwrap_used,
    reason = "a test without its material cannot go on"
)]

#[path = "../material/mod.rs"]
mod material;

mod definitions;
mod draft;
mod endorsed;
mod golden;
mod limits;
mod members;
mod properties;
