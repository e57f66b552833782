//! Trees by position: the schedule by which one chunk reaches everybody first.
//!
//! Positions are numbered in the order in which the schedule reaches them; 0 is the root. Integer
//! arithmetic only, so that everybody grows the same tree.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::message::Shape;

/// Time of sending a chunk, in the units of the schedule.
const TAU: u64 = 1000;

/// Greatest ratio.
pub const RATIO_MAX: u8 = 63;

/// 1000 times the powers of two with the exponents 0, 1/4, 2/4 and 3/4, in 10^-16.
const QUARTERS: [u128; 4] = [
    10_000_000_000_000_000_000,
    11_892_071_150_027_210_667,
    14_142_135_623_730_950_488,
    16_817_928_305_074_290_861,
];

/// `round(1000 * 2^(ratio / 4))`
fn travelling(ratio: u8) -> u64 {
    let ratio = ratio.min(RATIO_MAX);
    let scaled = QUARTERS[usize::from(ratio % 4)] << (ratio / 4);
    let unit = 10_u128.pow(16);
    u64::try_from((scaled + unit / 2) / unit).expect("2^16 times 1000 is a u64")
}

/// Who sends to whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    parents: Vec<u16>,
    /// Children of all positions one after the other, each list in the order of sending.
    children: Vec<u16>,
    /// Where in `children` those of a position begin; one more than there are positions.
    starts: Vec<u16>,
}

impl Tree {
    /// The tree of `n` positions; there are fewer than 65,536.
    pub fn new(n: u16, shape: Shape) -> Self {
        let lam = travelling(shape.ratio);
        let limit = |q: u16| match q {
            0 => u16::from(shape.root_cap.max(1)),
            _ => shape.cap.max(1),
        };
        let mut heap = BinaryHeap::from([Reverse((TAU + lam, 0_u16))]);
        let mut parents = vec![0; usize::from(n)];
        let mut counts = vec![0_u16; usize::from(n)];
        for p in 1..n {
            let Reverse((at, q)) = heap.pop().expect("the last one reached may send");
            parents[usize::from(p)] = q;
            let count = &mut counts[usize::from(q)];
            *count += 1;
            if *count < limit(q) {
                heap.push(Reverse((at + TAU, q)));
            }
            heap.push(Reverse((at + TAU + lam, p)));
        }
        Self::gathered(parents, &counts)
    }

    fn gathered(parents: Vec<u16>, counts: &[u16]) -> Self {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut sum = 0;
        for count in counts {
            starts.push(sum);
            sum += count;
        }
        starts.push(sum);
        let mut next = starts.clone();
        let mut children = vec![0; usize::from(sum)];
        for (p, q) in (0..=u16::MAX).zip(&parents).skip(1) {
            let place = &mut next[usize::from(*q)];
            children[usize::from(*place)] = p;
            *place += 1;
        }
        Self {
            parents,
            children,
            starts,
        }
    }

    /// Positions, the root's included.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is not even a root.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// To whom a position sends, in this order.
    pub fn children(&self, position: usize) -> &[u16] {
        let start = self.starts.get(position);
        let end = self.starts.get(position + 1);
        match (start, end) {
            (Some(start), Some(end)) => &self.children[usize::from(*start)..usize::from(*end)],
            _ => &[],
        }
    }

    /// From whom a position gets; none for the root's.
    pub fn parent(&self, position: usize) -> Option<usize> {
        if position == 0 {
            return None;
        }
        self.parents.get(position).map(|q| usize::from(*q))
    }

    /// Whether a position has children.
    pub fn is_inner(&self, position: usize) -> bool {
        !self.children(position).is_empty()
    }

    /// Whether `above` is on the way from the root to `position`.
    pub fn is_above(&self, above: usize, position: usize) -> bool {
        let mut at = self.parent(position);
        while let Some(q) = at {
            if q <= above {
                return q == above;
            }
            at = self.parent(q);
        }
        false
    }

    /// When the last position is reached if a sending takes `tau` and arrives `lam` later.
    pub fn finish(&self, tau: Duration, lam: Duration) -> Duration {
        let mut arrivals = vec![Duration::ZERO; self.len()];
        let mut last = Duration::ZERO;
        for q in 0..self.len() {
            let mut sent = arrivals[q];
            for p in self.children(q) {
                sent = sent.saturating_add(tau);
                arrivals[usize::from(*p)] = sent.saturating_add(lam);
            }
            last = last.max(arrivals[q]);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(cap: u16, root_cap: u8, ratio: u8) -> Shape {
        Shape {
            cap,
            root_cap,
            ratio,
        }
    }

    fn depth(tree: &Tree, position: usize) -> usize {
        tree.parent(position).map_or(0, |q| 1 + depth(tree, q))
    }

    #[test]
    fn the_vector_of_the_protocol_holds() {
        let tree = Tree::new(12, shape(3, 1, 8));
        assert_eq!(travelling(8), 4000);
        assert_eq!(tree.parents[1..], [0, 1, 1, 1, 2, 2, 3, 2, 3, 4, 3]);
        let units = Duration::from_nanos;
        assert_eq!(tree.finish(units(1000), units(4000)), units(18_000));
    }

    #[test]
    fn travelling_times_are_rounded_powers() {
        for ratio in 0..=RATIO_MAX {
            let exact = 1000.0 * 2_f64.powf(f64::from(ratio) / 4.0);
            assert!((travelling(ratio) as f64 - exact).abs() <= 0.5 + 1e-6);
        }
        assert_eq!(
            [travelling(0), travelling(1), travelling(63)],
            [1000, 1189, 55_108_987]
        );
        assert_eq!(travelling(200), travelling(63));
    }

    #[test]
    fn a_hundred_and_a_thousand_have_the_depth_of_the_protocol() {
        // 160 KB, 1 Gbit/s, K = 8: LAN 0.5 ms, WAN about 72 ms.
        for (n, cap, ratio, deepest, inner) in [
            (100, 8, 7, 5, Some(26)),
            (1000, 8, 7, 6, None),
            (100, 100, 34, 2, Some(2)),
            (1000, 32, 34, 3, None),
        ] {
            let tree = Tree::new(n, shape(cap, 1, ratio));
            let depths = (0..tree.len()).map(|p| depth(&tree, p));
            assert_eq!(depths.max(), Some(deepest), "{n} {cap}");
            if let Some(expected) = inner {
                let count = (0..tree.len()).filter(|p| tree.is_inner(*p)).count();
                assert_eq!(count, expected, "{n} {cap}");
            }
        }
    }

    #[test]
    fn every_position_is_reached_exactly_once() {
        for n in 2..300_u16 {
            for root_cap in [1, 8] {
                for cap in [1, 2, 8, 16, 18, n] {
                    for ratio in [0, 1, 7, 8, 20, 34, 63] {
                        let tree = Tree::new(n, shape(cap, root_cap, ratio));
                        let mut reached = vec![0; tree.len()];
                        for q in 0..tree.len() {
                            let limit = if q == 0 { u16::from(root_cap) } else { cap };
                            assert!(tree.children(q).len() <= usize::from(limit));
                            for p in tree.children(q) {
                                reached[usize::from(*p)] += 1;
                                assert!(usize::from(*p) > q);
                                assert_eq!(tree.parent(usize::from(*p)), Some(q));
                            }
                        }
                        assert_eq!(reached[0], 0);
                        assert!(reached[1..].iter().all(|count| *count == 1));
                    }
                }
            }
        }
    }

    #[test]
    fn above_is_whoever_is_on_the_way() {
        let tree = Tree::new(12, shape(3, 1, 8));
        let above: Vec<_> = (0..12).filter(|q| tree.is_above(*q, 8)).collect();
        assert_eq!(above, [0, 1, 2]);
        assert!(!tree.is_above(3, 0) && !tree.is_above(3, 3) && !tree.is_above(0, 99));
    }

    #[test]
    fn hostile_shapes_and_the_largest_tree_are_trees() {
        for shape in [shape(0, 0, 255), shape(u16::MAX, 255, 0), shape(1, 1, 63)] {
            for n in [0, 1, 2, u16::MAX] {
                let tree = Tree::new(n, shape);
                assert_eq!(tree.children.len(), usize::from(n.saturating_sub(1)));
            }
        }
    }
}
