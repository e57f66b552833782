//! Who takes part: the lists that roots publish, and the places that follow from them.

use std::{collections::VecDeque, sync::Arc};

use super::{
    message::{Class, Digest, Shape, View},
    parameters::{LISTED_MAX, MEMBERS_MAX, ORDERS_MAX, TREES_MAX, VIEWS_MAX},
    permutation::{self, Order},
    shape::Tree,
};
use crate::id::{ChannelId, Moment, PkiId};

/// Views of one author that are remembered: the one in use, one of latecomers, and those that may
/// be published in quick succession before the first of them is used.
const PER_AUTHOR_MAX: usize = 6;

/// The low bits of an epoch, which are its author's so that two never publish the same.
const TAG_BITS: u32 = 16;

/// Epochs of all authors together in a channel's life: with four views a second, thousands of years.
const COUNT_MAX: u64 = 1 << 40;

/// By how much a view may be ahead of the latest that is known: days without any. Whoever leads once
/// must not use up the epochs of those who lead later.
const LEAP_MAX: u64 = 1 << 20;

/// What the low bits of this author's epochs are.
pub(super) fn tag(author: &PkiId) -> u64 {
    match author.as_bytes() {
        [high, low, ..] => u64::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// The epoch that an author publishes after this one, if any is left.
pub(super) fn next_epoch(after: u64, author: &PkiId) -> Option<u64> {
    let count = (after >> TAG_BITS).saturating_add(1);
    (count <= COUNT_MAX).then_some((count << TAG_BITS) | tag(author))
}

/// One list of members.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) epoch: u64,
    pub(super) root: PkiId,
    pub(super) author: PkiId,
    /// Sorted by id.
    pub(super) members: Vec<(PkiId, Class)>,
    pub(super) digest: Digest,
    pub(super) signature: bytes::Bytes,
    /// Its author injects blocks with it from then on.
    pub(super) used_from: Moment,
}

impl Known {
    pub(super) fn index(&self, peer: &PkiId) -> Option<u16> {
        let found = self
            .members
            .binary_search_by(|(member, _)| member.cmp(peer));
        found.ok().and_then(|index| u16::try_from(index).ok())
    }

    pub(super) fn member(&self, index: u16) -> Option<(PkiId, Class)> {
        self.members.get(usize::from(index)).copied()
    }

    /// The leader is a plain peer, so members inject in its place.
    pub(super) fn is_plainly_led(&self) -> bool {
        self.index(&self.root).is_none()
    }

    /// The whole of it, as its author signed it.
    pub(super) fn in_full(&self) -> View {
        View {
            epoch: self.epoch,
            root: self.root,
            author: self.author,
            base: 0,
            added: self.members.clone(),
            removed: Vec::new(),
            digest: self.digest,
            signature: self.signature.clone(),
        }
    }

    fn order(&self, seed: u64) -> Order {
        let all = (0..=u16::MAX).zip(&self.members);
        let without_root = all.filter(|(_, (peer, _))| *peer != self.root);
        Order::new(
            seed,
            without_root.map(|(index, (_, class))| (index, *class == Class::Normal)),
        )
    }
}

/// Why a view was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It is here already, or a later one of its author is.
    #[error("epoch {0} is not newer than what is known")]
    Old(u64),
    /// It cannot be told what it changes.
    #[error("it changes epoch {0}, which is not known")]
    Baseless(u64),
    /// It does not say what it should.
    #[error("{0}")]
    Wrong(&'static str),
}

/// The views that are known.
#[derive(Debug, Default)]
pub(super) struct Views {
    /// Oldest first.
    known: VecDeque<Arc<Known>>,
}

impl Views {
    pub(super) fn find(&self, epoch: u64) -> Option<Arc<Known>> {
        self.known.iter().find(|view| view.epoch == epoch).cloned()
    }

    pub(super) fn is_listed(&self, peer: &PkiId) -> bool {
        self.known.iter().any(|view| view.index(peer).is_some())
    }

    pub(super) fn latest_epoch(&self) -> u64 {
        self.known.iter().map(|view| view.epoch).max().unwrap_or(0)
    }

    /// The one that a root injects by now.
    pub(super) fn in_use(&self, now: Moment, root: &PkiId) -> Option<Arc<Known>> {
        let of_root = self.known.iter().filter(|view| view.root == *root);
        let used = of_root.filter(|view| view.used_from <= now);
        used.max_by_key(|view| view.epoch).cloned()
    }

    /// The latest of a root, used or not.
    pub(super) fn latest_of(&self, root: &PkiId) -> Option<Arc<Known>> {
        let of_root = self.known.iter().filter(|view| view.root == *root);
        of_root.max_by_key(|view| view.epoch).cloned()
    }

    /// The latest that came, whoever's.
    pub(super) fn latest(&self) -> Option<Arc<Known>> {
        self.known.back().cloned()
    }

    /// The list that a published view stands for, if it is all right. Whether its author may
    /// speak is not asked here.
    pub(super) fn resolve(&self, view: &View, is_wanted: bool) -> Result<Known, Unfit> {
        if view.added.len().saturating_add(view.removed.len()) > MEMBERS_MAX {
            return Err(Unfit::Wrong("it lists more members than a view may have"));
        }
        let count = view.epoch >> TAG_BITS;
        if count == 0 || view.epoch & ((1 << TAG_BITS) - 1) != tag(&view.author) {
            return Err(Unfit::Wrong("its epoch is not one of its author's"));
        }
        let latest = self.latest_epoch() >> TAG_BITS;
        if count > COUNT_MAX || (latest > 0 && count > latest + LEAP_MAX) {
            return Err(Unfit::Wrong("its epoch is too far above those before"));
        }
        let of_author = self
            .known
            .iter()
            .filter(|known| known.author == view.author);
        let newest = of_author.map(|known| known.epoch).max().unwrap_or(0);
        if self.find(view.epoch).is_some() || (view.epoch < newest && !is_wanted) {
            return Err(Unfit::Old(view.epoch));
        }
        let mut members = match view.base {
            0 => Vec::new(),
            base => match self.find(base) {
                Some(base) => base.members.clone(),
                None => return Err(Unfit::Baseless(base)),
            },
        };
        members.extend(&view.added);
        // The later entry of a member is the one that counts.
        members.reverse();
        members.sort_by_key(|(peer, _)| *peer);
        members.dedup_by_key(|(peer, _)| *peer);
        let mut removed = view.removed.clone();
        removed.sort();
        members.retain(|(peer, _)| removed.binary_search(peer).is_err());
        if members.len() > MEMBERS_MAX {
            return Err(Unfit::Wrong("it has more members than a view may have"));
        }
        if View::digest_of(&members) != view.digest {
            return Err(Unfit::Wrong("its list is not the one that was signed"));
        }
        let known = Known {
            epoch: view.epoch,
            root: view.root,
            author: view.author,
            members,
            digest: view.digest,
            signature: view.signature.clone(),
            used_from: Moment::ZERO,
        };
        let first = known.members.first().map(|(peer, _)| *peer);
        match known.is_plainly_led() {
            true if first != Some(view.author) => {
                Err(Unfit::Wrong("it is not by the first member"))
            }
            false if view.root != view.author => Err(Unfit::Wrong("it is not by its root")),
            _ => Ok(known),
        }
    }

    /// Remembers it. Of the author with the most views the oldest gives way, or the oldest of all; our
    /// own give way to our own only.
    pub(super) fn insert(&mut self, view: Known, me: &PkiId) -> Arc<Known> {
        let of = |author: PkiId| move |known: &Arc<Known>| known.author == author;
        let is_authors = of(view.author);
        if self.known.iter().filter(|k| is_authors(k)).count() >= PER_AUTHOR_MAX {
            self.remove_oldest(is_authors);
        }
        while self.known.len() >= VIEWS_MAX
            || self.listed().saturating_add(view.members.len()) > LISTED_MAX
        {
            let count = |author| self.known.iter().filter(|k| of(author)(k)).count();
            let others = self.known.iter().map(|k| k.author).filter(|a| a != me);
            // Of those with as many the one that is asked about last counts, so the oldest is.
            let Some(most) = others.rev().max_by_key(|a| count(*a)) else {
                break;
            };
            self.remove_oldest(of(most));
        }
        let view = Arc::new(view);
        self.known.push_back(view.clone());
        view
    }

    fn listed(&self) -> usize {
        self.known.iter().map(|view| view.members.len()).sum()
    }

    fn remove_oldest(&mut self, is_meant: impl Fn(&Arc<Known>) -> bool) {
        let epochs = self.known.iter().filter(|known| is_meant(known));
        let Some(oldest) = epochs.map(|known| known.epoch).min() else {
            return;
        };
        self.known.retain(|known| known.epoch != oldest);
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Everybody's place in the trees of one block.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) view: Arc<Known>,
    pub(super) order: Arc<Order>,
    pub(super) tree: Arc<Tree>,
}

impl Places {
    /// Where this peer stands in the tree of a stripe; 0 for the root.
    pub(super) fn position(&self, stripe: u8, stripes: u8, peer: &PkiId) -> Option<usize> {
        if *peer == self.view.root && !self.view.is_plainly_led() {
            return Some(0);
        }
        let rank = self.order.rank(self.view.index(peer)?)?;
        Some(self.order.position(stripe, stripes, rank))
    }

    /// Who stands there, the root left out.
    pub(super) fn node(&self, stripe: u8, stripes: u8, position: usize) -> Option<(PkiId, Class)> {
        let rank = self.order.rank_at(stripe, stripes, position)?;
        self.view.member(self.order.at(rank)?)
    }

    /// Who should have sent us this stripe, the one that injects included.
    pub(super) fn parent(&self, stripe: u8, stripes: u8, peer: &PkiId) -> Option<PkiId> {
        let position = self.position(stripe, stripes, peer)?;
        match self.tree.parent(position)? {
            0 => self.injector(0),
            above => self.node(stripe, stripes, above).map(|(peer, _)| peer),
        }
    }

    /// Who injects: the root, or those that do it in turn for a plain one.
    pub(super) fn injector(&self, turn: usize) -> Option<PkiId> {
        if !self.view.is_plainly_led() {
            return (turn == 0).then_some(self.view.root);
        }
        let member = self.view.member(self.order.at(turn)?)?;
        Some(member.0)
    }
}

/// Orders and trees that were computed, so that each is computed once.
#[derive(Debug, Default)]
pub(super) struct Drawer {
    orders: VecDeque<((u64, u64), Arc<Order>)>,
    trees: VecDeque<((usize, Shape), Arc<Tree>)>,
}

impl Drawer {
    pub(super) fn of(
        &mut self,
        channel: &ChannelId,
        view: &Arc<Known>,
        number: u64,
        shape: Shape,
    ) -> Places {
        let order = self.order(channel, view, number);
        let tree = self.tree(order.len() + 1, shape);
        Places {
            view: view.clone(),
            order,
            tree,
        }
    }

    pub(super) fn order(&mut self, channel: &ChannelId, view: &Known, number: u64) -> Arc<Order> {
        let key = (view.epoch, number);
        if let Some((_, order)) = self.orders.iter().find(|(known, _)| *known == key) {
            return order.clone();
        }
        let order = Arc::new(view.order(permutation::seed(channel, view.epoch, number)));
        if self.orders.len() >= ORDERS_MAX {
            self.orders.pop_front();
        }
        self.orders.push_back((key, order.clone()));
        order
    }

    fn tree(&mut self, n: usize, shape: Shape) -> Arc<Tree> {
        let key = (n, shape);
        if let Some((_, tree)) = self.trees.iter().find(|(known, _)| *known == key) {
            return tree.clone();
        }
        let tree = Arc::new(Tree::new(u16::try_from(n).unwrap_or(u16::MAX), shape));
        if self.trees.len() >= TREES_MAX {
            self.trees.pop_front();
        }
        self.trees.push_back((key, tree.clone()));
        tree
    }
}
