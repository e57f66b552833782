//! What a scenario may ask of its world.

use std::time::Duration;

use sha2::Digest as _;
use tidings_gossip::{
    Node,
    id::{PkiId, Ticket},
};

use super::World;
use crate::{Stats, toy::ToyPorts};

impl World {
    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What it cost so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// A digest over every effect of every peer so far, with its time.
    pub fn trace_digest(&self) -> [u8; 32] {
        self.trace.clone().finalize().into()
    }

    /// Number of blocks in the ledger of a peer, up or down.
    pub fn height(&self, peer: usize) -> u64 {
        self.hosts.get(peer).map_or(0, |host| host.ledger.height())
    }

    /// Every peer is up and has so many blocks.
    pub fn all_at_height(&self, height: u64) -> bool {
        self.hosts
            .iter()
            .all(|host| host.body.is_some() && host.ledger.height() == height)
    }

    /// Every ledger holds the orderer's chain as far as it goes, block by block.
    pub fn all_hold_the_same_chain(&self) -> bool {
        self.hosts
            .iter()
            .all(|host| host.ledger.is_prefix_of(self.orderer.chain()))
    }

    /// The PKI-ID of a peer.
    pub fn pki_id(&self, peer: usize) -> Option<PkiId> {
        self.hosts.get(peer).map(|host| host.identity.pki_id)
    }

    /// The core of a peer that is up.
    pub fn node(&self, peer: usize) -> Option<&Node<ToyPorts>> {
        let body = self.hosts.get(peer)?.body.as_ref()?;
        Some(&body.node)
    }

    /// The outcome of an acknowledged send of a peer.
    pub fn acknowledged(&self, peer: usize, ticket: Ticket) -> Option<&Result<usize, String>> {
        let body = self.hosts.get(peer)?.body.as_ref()?;
        body.acknowledged.get(&ticket)
    }

    /// Everything that helps to understand a failure.
    pub fn report(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("seed {} at {:?}\n", self.seed, self.now);
        for (number, host) in self.hosts.iter().enumerate() {
            let state = if host.body.is_some() { "up" } else { "down" };
            let _ = writeln!(
                text,
                "  peer {number} {} {} {state}: height {}, {}, {}",
                host.identity.org,
                host.identity.pki_id,
                host.ledger.height(),
                host.vault.summary(),
                host.belief(),
            );
        }
        let _ = writeln!(text, "  orderer: height {}", self.orderer.height());
        let _ = writeln!(text, "  commits: {:?}", self.stats.commits);
        let _ = writeln!(text, "  refused: {:?}", self.stats.refused);
        for warning in &self.warnings {
            let _ = writeln!(text, "  {warning}");
        }
        text
    }
}
