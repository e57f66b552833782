//! What is on disk: the chain of one channel, its private data, and what peers say of it.
//!
//! A ledger is a folder of append-only segment files that hold blocks exactly as they were
//! committed, and beside each finished segment an index that can be thrown away and is made
//! again. `FORMAT.md` draws both to the byte. Private data has two keyed stores of its own:
//! [`private`] what belongs to committed blocks, [`transient`] what waits for its block. What peers
//! say of the validity of transactions has another, [`validity`].
//!
//! # Promises of the ledger
//!
//! - **Committed means on disk.** [`Ledger::append`] returns after `fdatasync` of the blocks'
//!   bytes, and readers see a block only then. A group of blocks costs one sync; the index costs
//!   none (it is synced once when a segment is finished).
//! - **All or nothing.** A group is committed whole or not at all. When the disk is full the file
//!   is cut back to the last committed block, and the same group can be tried again.
//! - **Opens after every crash.** A torn tail, which was never reported as committed, is cut on
//!   start and [`Recovery`] says what was cut. Damage to what was committed is never cut away: it
//!   is an error that names the place.
//! - **One chain.** A block is taken only if its number is the height and its previous hash is the
//!   hash of the last header.
//! - **Pruned only as told.** [`Ledger::prune`] removes the oldest finished segment that
//!   [`Retention`] gives up. What is left says where it begins, so every link of it can be checked;
//!   the first block, configuration blocks and whatever else its caller names are held.
//! - **One writer.** The folder is locked while a [`Ledger`] is open; [`Reader`]s are cloned from
//!   it and read beside it.
//! - **Flat memory.** What is kept in memory does not grow with the chain: the index of the one
//!   unfinished segment (at most [`SEGMENT_ENTRIES_MAX`] entries of 16 bytes and as many offsets,
//!   plus one group), about 80 bytes for each finished segment, and some for each held block.
//!
//! It knows no signatures, policies or transactions' validity, takes blocks that somebody else
//! verified, and is synchronous: whoever is async calls it from a blocking thread.

mod audit;
mod chain;
mod damage;
mod folder;
mod index;
mod keyed;
mod ledger;
pub mod private;
mod pruned;
mod reader;
mod record;
mod segment;
pub mod transient;
pub mod validity;

pub use audit::{Audit, AuditError};
pub use chain::{BlockHash, Tip, data_hash};
pub use damage::{Damage, Failed, Fault, ReadError};
pub use keyed::{StoreDamage, StoreError, StoreOpenError};
pub use ledger::{
    AppendError, Ledger, OpenError, Recovery, Retention, SEGMENT_ENTRIES_MAX, SEGMENT_LEN_MAX,
    Settings,
};
pub use reader::{Blocks, Extent, Reader, Transaction};
pub use record::BLOCK_LEN_MAX;
pub use segment::Cut;
