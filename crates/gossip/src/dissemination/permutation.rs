//! Who stands where in the trees of a block: integer arithmetic that gives everybody the same.
//!
//! Knows nothing of who anybody is: members are indices into the sorted list of a view.

use sha2::{Digest as _, Sha256};

use crate::id::ChannelId;

/// Splitmix64, as the protocol prescribes it.
#[derive(Debug)]
struct Splitmix(u64);

impl Splitmix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        let product = u128::from(self.next()) * (n as u128);
        usize::try_from(product >> 64).expect("a number below n is a usize")
    }
}

/// What a block's choices derive from. Nobody chooses it: neither the epoch nor the number is
/// free for a member.
pub fn seed(channel: &ChannelId, epoch: u64, number: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"stripe/1");
    hash.update(channel.as_bytes());
    hash.update(epoch.to_be_bytes());
    hash.update(number.to_be_bytes());
    leading(hash)
}

/// Which of `count` members of class 0 looks after a plain peer.
pub fn guardian(peer: &[u8], seed: u64, count: usize) -> usize {
    let mut hash = Sha256::new();
    hash.update(peer);
    hash.update(seed.to_be_bytes());
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    usize::try_from(leading(hash) % count).unwrap_or(0)
}

fn leading(hash: Sha256) -> u64 {
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn shuffle<T>(seed: u64, items: &mut [T]) {
    let mut random = Splitmix(seed);
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i + 1));
    }
}

/// The members without the root, in the order of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of everything that is chosen for this block.
    pub seed: u64,
    members: Vec<u16>,
    /// How many at the front are of class 0.
    normal: usize,
}

impl Order {
    /// `members` are all but the root, in the order of the view, and whether each is of class 0.
    pub fn new(seed: u64, members: impl Iterator<Item = (u16, bool)>) -> Self {
        let mut shuffled: Vec<(u16, bool)> = members.collect();
        shuffle(seed, &mut shuffled);
        let front = shuffled.iter().filter(|(_, is_normal)| *is_normal);
        let back = shuffled.iter().filter(|(_, is_normal)| !*is_normal);
        let members: Vec<u16> = front.clone().chain(back).map(|(index, _)| *index).collect();
        Self {
            seed,
            normal: front.count(),
            members,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nobody but the root.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many of class 0 there are.
    pub fn normal(&self) -> usize {
        self.normal
    }

    /// Who has this rank.
    pub fn at(&self, rank: usize) -> Option<u16> {
        self.members.get(rank).copied()
    }

    /// Which rank a member has.
    pub fn rank(&self, member: u16) -> Option<usize> {
        self.members.iter().position(|m| *m == member)
    }

    fn rotation(&self, stripe: u8, stripes: u8) -> usize {
        usize::from(stripe) * self.normal / usize::from(stripes.max(1))
    }

    /// The position of a rank in the tree of a stripe.
    pub fn position(&self, stripe: u8, stripes: u8, rank: usize) -> usize {
        if rank >= self.normal {
            return 1 + rank;
        }
        1 + (rank + self.normal - self.rotation(stripe, stripes)) % self.normal
    }

    /// The rank of a position in the tree of a stripe; none for the root's and beyond the end.
    pub fn rank_at(&self, stripe: u8, stripes: u8, position: usize) -> Option<usize> {
        let behind = position.checked_sub(1).filter(|q| *q < self.len())?;
        if behind >= self.normal {
            return Some(behind);
        }
        Some((behind + self.rotation(stripe, stripes)) % self.normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(seed: u64, range: std::ops::Range<u16>) -> Vec<u16> {
        let mut items: Vec<u16> = range.collect();
        shuffle(seed, &mut items);
        items
    }

    #[test]
    fn the_vectors_of_the_protocol_hold() {
        assert_eq!(shuffled(42, 0..10), [8, 3, 6, 5, 4, 0, 9, 2, 1, 7]);
        let seed = seed(&"ch1".into(), 7, 1234);
        assert_eq!(seed, 0xeab1_a2cd_2083_d7c1);
        assert_eq!(shuffled(seed, 0..10), [9, 1, 2, 6, 0, 4, 3, 8, 5, 7]);
    }

    #[test]
    fn the_heads_of_four_stripes_are_those_of_the_protocol() {
        let order = Order::new(42, (1..11).map(|m| (m, true)));
        assert_eq!(order.members, [9, 4, 7, 6, 5, 1, 10, 3, 2, 8]);
        let rotations: Vec<_> = (0..4).map(|s| order.rotation(s, 4)).collect();
        assert_eq!(rotations, [0, 2, 5, 7]);
        let heads: Vec<_> = (0..4).map(|s| order.rank_at(s, 4, 1).unwrap()).collect();
        let heads: Vec<_> = heads.iter().map(|r| order.at(*r).unwrap()).collect();
        assert_eq!(heads, [9, 7, 1, 3]);
    }

    #[test]
    fn every_rank_has_one_position_in_every_tree() {
        for len in 0..40_u16 {
            for normal in 0..=len {
                let order = Order::new(7, (0..len).map(|m| (m, m < normal)));
                for stripes in [1, 4, 9, 33] {
                    for stripe in 0..stripes {
                        for rank in 0..order.len() {
                            let position = order.position(stripe, stripes, rank);
                            assert_eq!(order.rank_at(stripe, stripes, position), Some(rank));
                        }
                        assert_eq!(order.rank_at(stripe, stripes, 0), None);
                        assert_eq!(order.rank_at(stripe, stripes, order.len() + 1), None);
                    }
                }
                assert_eq!(order.normal(), usize::from(normal));
                assert!((0..len).all(|m| order.at(order.rank(m).unwrap()) == Some(m)));
                let front = (0..order.normal()).map(|rank| order.at(rank).unwrap());
                assert!(front.into_iter().all(|m| m < normal));
            }
        }
    }

    #[test]
    fn every_plain_peer_has_one_guardian() {
        for count in 1..20 {
            assert!(guardian(b"x", 5, count) < count);
        }
        assert_eq!(guardian(b"x", 5, 0), 0);
    }
}
