//! How fast and at what price blocks reach all: three ways of spreading them over one model of
//! links and processors.
//!
//! A [`Scenario`] says what the network is like, [`Scenario::run`] lives through it with one of
//! the [`Way`]s and gives an [`Outcome`]. Each node has one uplink, one downlink and one
//! processor, and each of those serves one thing at a time; whatever can be random descends from
//! the seed.
//!
//! Unlike a [`World`](crate::World) it knows no gossip nodes, envelopes or signatures: what those
//! cost is a number here. So it can be large, and its figures compare ways, not implementations.

mod enhanced;
mod fabric;
mod floor;
mod network;
mod outcome;
mod record;
mod recovery;
mod scenario;
mod stripe;

pub use floor::floor;
pub use outcome::Outcome;
pub use scenario::{Crowd, Net, Scenario};
pub use stripe::{PlainDelivery, Stripe};

use std::time::Duration;

use network::{Network, Parcel};

/// How blocks are spread.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// (a) Fabric's gossip with its default settings.
    Fabric,
    /// (b) The enhanced gossip of arXiv 2004.07060 with this fan-out.
    Enhanced(Fanout),
    /// (g) STRIPE, as the node runs it.
    Stripe(Stripe),
}

/// To how many an enhanced gossip tells each thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fanout {
    /// Two others.
    Two,
    /// Four others.
    Four,
}

/// What a way of spreading does when something happens.
trait Protocol {
    /// What one node tells another.
    type Body;

    /// Before anything happens.
    fn start(&mut self, net: &mut Network<Self::Body>);

    /// The root has a new block, which is on record already.
    fn inject(&mut self, net: &mut Network<Self::Body>, block: usize);

    /// A parcel was processed by the node it was for.
    fn receive(&mut self, net: &mut Network<Self::Body>, parcel: Parcel<Self::Body>);

    /// A timer of this node has run out.
    fn due(&mut self, net: &mut Network<Self::Body>, node: usize, timer: u64);

    /// The membership layer found out that this node has crashed.
    fn noticed(&mut self, _node: usize) {}
}

impl Scenario {
    /// Lives through it. The same scenario always has the same outcome.
    pub fn run(&self, way: Way) -> Outcome {
        match way {
            Way::Fabric => network::run(self, &mut fabric::Fabric::new(self)),
            Way::Enhanced(fanout) => network::run(self, &mut enhanced::Enhanced::new(self, fanout)),
            Way::Stripe(options) => network::run(self, &mut stripe::Stripes::new(self, options)),
        }
    }

    /// When this block is injected.
    fn injected_at(&self, block: usize) -> Duration {
        let block = u32::try_from(block).unwrap_or(u32::MAX);
        scenario::FIRST_BLOCK + self.interval.saturating_mul(block)
    }
}
