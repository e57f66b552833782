//! Comm against itself, against peers that do not behave, and against peers that behave like Go.
//! Everything runs over pipes in paused time.

mod answers;
mod duplicates;
mod flow;
mod handshake;
mod limits;
mod probing;
mod recorded;
mod toy;
