//! Pushes that are being stored.
//!
//! Storing takes a write to the disk, and a peer can send faster than that.

use std::{collections::BTreeMap, fmt};

use crate::{
    id::{ConnectionId, PkiId},
    message::Connection,
    verify::WRITE_SET_LEN_MAX,
};

/// Pushes of one channel that are being stored at a time. A disk takes many of them in one go.
pub const PUSHES_MAX: usize = 1024;

/// Those of one peer: a part, so that one peer leaves room for others.
pub const PUSHES_PER_PEER_MAX: usize = 256;

/// Bytes of the write sets of a channel that are being stored at a time.
pub const PUSH_BYTES_MAX: usize = 2 * WRITE_SET_LEN_MAX;

/// Those of one peer: one write set of the greatest length, or many of the usual.
pub const PUSH_BYTES_PER_PEER_MAX: usize = WRITE_SET_LEN_MAX;

#[derive(Debug, Default)]
pub(super) struct Pushes {
    under_way: BTreeMap<u64, Push>,
    begun: u64,
}

#[derive(Debug)]
struct Push {
    peer: PkiId,
    connection: ConnectionId,
    nonce: u64,
    bytes: usize,
}

/// What becomes of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It is to be stored, under this number.
    New(u64),
    /// It is being stored already.
    Repeated,
}

/// More is being stored than is good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy {
    is_of_all: bool,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_of_all { "of all" } else { "of yours" };
        write!(
            f,
            "busy: too many pushes {whose} are being stored, try again"
        )
    }
}

impl Pushes {
    /// Makes room for a push of so many bytes.
    pub(super) fn begin(
        &mut self,
        from: &Connection,
        nonce: u64,
        bytes: usize,
    ) -> Result<Begun, Busy> {
        let (mut all, mut own) = (0_usize, 0_usize);
        let mut own_pushes = 0;
        for push in self.under_way.values() {
            if push.connection == from.id && push.nonce == nonce {
                return Ok(Begun::Repeated);
            }
            all += push.bytes;
            if push.peer == from.peer() {
                own += push.bytes;
                own_pushes += 1;
            }
        }
        if own_pushes >= PUSHES_PER_PEER_MAX || own.saturating_add(bytes) > PUSH_BYTES_PER_PEER_MAX
        {
            return Err(Busy { is_of_all: false });
        }
        if self.under_way.len() >= PUSHES_MAX || all.saturating_add(bytes) > PUSH_BYTES_MAX {
            return Err(Busy { is_of_all: true });
        }
        self.begun += 1;
        let push = Push {
            peer: from.peer(),
            connection: from.id,
            nonce,
            bytes,
        };
        self.under_way.insert(self.begun, push);
        Ok(Begun::New(self.begun))
    }

    /// A push is stored or cannot be; gives back whom to tell, and under which nonce.
    pub(super) fn end(&mut self, push: u64) -> Option<(ConnectionId, u64)> {
        let push = self.under_way.remove(&push)?;
        Some((push.connection, push.nonce))
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }
}
