//! A bounded memory of the most recently used answers.

use std::collections::BTreeMap;

/// Answers by hash of the question. At the limit the one unused for longest goes.
#[derive(Debug)]
pub(super) struct Memory<T> {
    limit: usize,
    /// Uses so far; orders the entries.
    uses: u64,
    entries: BTreeMap<[u8; 32], (u64, T)>,
    by_use: BTreeMap<u64, [u8; 32]>,
}

impl<T> Memory<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            uses: 0,
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    pub(super) fn recall(&mut self, key: &[u8; 32]) -> Option<&T> {
        let (used, value) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(value)
    }

    pub(super) fn remember(&mut self, key: [u8; 32], value: T) {
        self.uses += 1;
        if let Some((used, _)) = self.entries.insert(key, (self.uses, value)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        if self.entries.len() > self.limit
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_the_longest_unused_goes() {
        let mut memory = Memory::new(2);
        memory.remember([1; 32], 'a');
        memory.remember([2; 32], 'b');
        assert_eq!(memory.recall(&[1; 32]), Some(&'a'));
        memory.remember([3; 32], 'c');
        assert_eq!(memory.recall(&[2; 32]), None);
        assert_eq!(memory.recall(&[1; 32]), Some(&'a'));
        assert_eq!(memory.recall(&[3; 32]), Some(&'c'));
        assert_eq!((memory.entries.len(), memory.by_use.len()), (2, 2));
    }

    #[test]
    fn remembering_again_replaces() {
        let mut memory = Memory::new(2);
        memory.remember([1; 32], 'a');
        memory.remember([1; 32], 'b');
        assert_eq!(memory.recall(&[1; 32]), Some(&'b'));
        assert_eq!((memory.entries.len(), memory.by_use.len()), (1, 1));
    }
}
