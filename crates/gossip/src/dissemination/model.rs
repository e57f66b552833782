//! How long things should take, as computed from trees and from what is known of links.

use std::time::Duration;

use super::{
    Dissemination,
    estimate::Model,
    message::{Class, Cut, Shape},
    parameters::hop_time,
    shape::Tree,
};
use crate::id::PkiId;

/// What the time of a tree depends on.
pub(super) type Key = (usize, Shape, Cut, Duration);

impl Dissemination {
    pub(super) fn latency(&mut self) -> Duration {
        self.neighbours.latency(self.parameters.latency)
    }

    /// What a block's times are compared with.
    pub(super) fn model(&mut self, number: u64) -> Model {
        let latency = self.latency();
        let group = self
            .blocks
            .get(&number)
            .and_then(|block| block.group.as_ref());
        let whole = Cut { len: 1, k: 1, p: 0 };
        let cut = group.map_or(whole, |group| group.cut);
        let way = group.and_then(|group| group.way(0));
        let tree = way.and_then(|way| self.places(number, way)).map(|p| p.tree);
        let n = tree
            .as_ref()
            .map_or(self.neighbours.len() + 1, |tree| tree.len());
        let shape = match way {
            Some(way) => way.shape,
            None => self.parameters.shape(n, cut, latency),
        };
        let chunk = self.parameters.chunk_time(cut);
        let key = (n, shape, cut, latency);
        let finish = match self.model {
            Some((known, finish)) if known == key => finish,
            _ => {
                let hop = hop_time(cut, latency);
                let one = match tree {
                    Some(tree) => tree.finish(chunk, hop),
                    None => {
                        Tree::new(u16::try_from(n).unwrap_or(u16::MAX), shape).finish(chunk, hop)
                    }
                };
                one + chunk * u32::from(cut.stripes().saturating_sub(1))
            }
        };
        self.model = Some((key, finish));
        Model {
            finish,
            patience: latency / 2 + self.parameters.jitter + chunk * u32::from(cut.k) / 4,
        }
    }

    /// How long an answer to a chunk sent now may take.
    pub(super) fn patience(&mut self, peer: &PkiId, cut: Cut) -> Duration {
        let latency = self.latency();
        let is_slow = self
            .neighbours
            .find(peer)
            .is_some_and(|n| n.declared == Class::Slow);
        let jitter = self.parameters.jitter;
        let (least, chunks) = if is_slow {
            (10 * jitter, 12)
        } else {
            (jitter, 3)
        };
        let queued = u32::try_from(self.uplink.len()).unwrap_or(u32::MAX);
        let chunks = (chunks + u32::from(cut.k) / 2).saturating_add(queued);
        let sending = self.parameters.chunk_time(cut).saturating_mul(chunks);
        self.neighbours.travel(peer, latency) + least + sending
    }
}
