//! The one source of chance: a generator for each component, derived from the node's seed.

use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use sha2::{Digest, Sha256};

/// The generator of one component. The same seed and name always give the same numbers, and
/// different names give unrelated ones.
pub fn generator(seed: &[u8; 32], component: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(component.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// At most `count` of these, each set of that size as likely as any other, in random order.
pub fn pick<'a, T>(rng: &mut ChaCha8Rng, from: &'a [T], count: usize) -> Vec<&'a T> {
    let mut all: Vec<&T> = from.iter().collect();
    let (picked, _) = all.partial_shuffle(rng, count);
    picked.to_vec()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn a_generator_depends_on_seed_and_name_only() {
        let draw = |seed: u8, name| generator(&[seed; 32], name).random::<u64>();
        assert_eq!(draw(1, "pull"), draw(1, "pull"));
        assert_ne!(draw(1, "pull"), draw(2, "pull"));
        assert_ne!(draw(1, "pull"), draw(1, "ack"));
    }

    #[test]
    fn picks_are_distinct_and_no_more_than_there_are() {
        let mut rng = generator(&[0; 32], "test");
        let mut all = pick(&mut rng, &[1, 2, 3], 9);
        all.sort();
        assert_eq!(all, [&1, &2, &3]);
        assert_eq!(pick(&mut rng, &[1, 2, 3], 2).len(), 2);
        assert!(pick::<u8>(&mut rng, &[], 2).is_empty());
    }
}
