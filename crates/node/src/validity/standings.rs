//! Where each block of a channel stands: what was heard, kept on disk, and asked for by those who
//! serve clients.
//!
//! Promises: what [`Validity::codes`] gives was agreed when it was asked; whoever waits for a block is
//! told when it stands, and waits no longer than [`HELD_MAX`]. What was heard in the last second
//! before a crash is heard again. Whoever may wait for the disk calls what reads or hears; all else
//! only looks into memory.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tidings_gossip::id::ChannelId;
use tidings_ledger::{
    StoreOpenError,
    validity::{Row, ValidityStore},
};
use tokio::{sync::watch, time::Instant};

use super::word::{Claim, Heard, Ours, Standing, Word};
use crate::{logging::Seldom, vitals::Vitals};

/// How long a block that was just committed is kept back from clients who follow the chain, so that
/// they get its codes. Peers have them some milliseconds after the block.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(3);

/// Blocks that are kept back. Who commits faster catches up, and nobody waits for codes then.
const FRESH_MAX: usize = 1024;

/// Rows that are not on disk yet: a second of live blocks, or a write while catching up.
const UNSAVED_MAX: usize = 256;

/// Blocks whose last change is known, each some fifty bytes. What was made of older ones is made
/// again.
const STAMPS_MAX: usize = 16_384;

/// Blocks in one report.
const REPORT_LEN_MAX: u64 = 10;

static DISAGREEMENTS: Seldom = Seldom::new();

/// What is known of the validity of one channel's transactions.
#[derive(Debug)]
pub struct Validity {
    channel: ChannelId,
    /// How many organizations have to agree.
    wanted: usize,
    vitals: Vitals,
    store: ValidityStore,
    known: Mutex<Known>,
    /// Held while something is heard: a row is read, changed and kept without another in between.
    hearing: Mutex<()>,
    /// Held while rows are written, so that none is overtaken by an older one.
    saving: Mutex<()>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Rows that are not on disk, and newer than those that are.
    unsaved: BTreeMap<u64, Word>,
    /// The next block of each organization. At most as many as are followed, over all starts.
    next: BTreeMap<String, u64>,
    /// Of whom organizations are heard, or why they are not.
    sources: BTreeMap<String, String>,
    stamps: Stamps,
    fresh: Fresh,
}

/// When codes that are shown changed, so that what was made of earlier ones is not used any more.
#[derive(Debug, Default)]
struct Stamps {
    last: u64,
    of: BTreeMap<u64, u64>,
    /// Of all others.
    floor: u64,
}

/// Blocks that were just committed and whose standing is not clear, with the end of waiting.
#[derive(Debug, Default)]
struct Fresh {
    until: BTreeMap<u64, Instant>,
    height: u64,
}

/// What is known of a channel, for a person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many organizations have to agree.
    pub wanted: usize,
    /// So many organizations have been heard of all blocks below.
    pub heard: u64,
    /// How many blocks are disputed.
    pub disputed: u64,
    /// The first of them.
    pub first_disputed: Option<u64>,
    /// Each organization with the block that is awaited of it, and of whom.
    pub organizations: Vec<(String, u64, String)>,
    /// Blocks, ascending.
    pub blocks: Vec<BlockReport>,
}

/// What is known of a block, for a person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockReport {
    /// Its number.
    pub number: u64,
    /// Where it stands.
    pub standing: Standing,
    /// The codes that were heard first.
    pub codes: Vec<u8>,
    /// Who gave these.
    pub claimed_by: Vec<String>,
    /// Who says what otherwise.
    pub against: Vec<(String, String)>,
}

impl Validity {
    /// Opens what was heard before.
    pub(super) fn open(
        dir: &Path,
        channel: ChannelId,
        wanted: usize,
        vitals: Vitals,
    ) -> Result<Self, StoreOpenError> {
        let store = ValidityStore::open(dir)?;
        // What cannot be read is heard again.
        let known = Known {
            next: store.next().unwrap_or_default(),
            ..Known::default()
        };
        Ok(Self {
            channel,
            wanted,
            vitals,
            store,
            known: Mutex::new(known),
            hearing: Mutex::new(()),
            saving: Mutex::new(()),
            changed: watch::channel(()).0,
        })
    }

    /// The channel is at work, with so many blocks: nobody waits for those. What is disputed from
    /// before is told again. A ledger that was made anew is shorter, and its blocks are heard again.
    pub(crate) fn begin(&self, height: u64) -> Result<(), String> {
        {
            let mut known = self.known();
            known.fresh.height = height;
            for next in known.next.values_mut() {
                *next = height.clamp(1, (*next).max(1));
            }
        }
        self.show_heard();
        let (_, first) = self.store.disputed().map_err(|error| error.to_string())?;
        if let Some(number) = first {
            let word = self.word(number)?;
            self.raise(number, &word);
        }
        Ok(())
    }

    /// The codes of the block with this header, if they are agreed. Reads from the disk.
    pub(crate) fn codes(&self, number: u64, header: &[u8]) -> Option<Bytes> {
        let word = self.word(number).ok()?;
        let is_agreed = word.standing(self.wanted) == Standing::Agreed && word.is_of(header);
        is_agreed.then_some(word.codes)
    }

    /// Changes with what [`Self::codes`] gives for this block.
    pub(crate) fn stamp(&self, number: u64) -> u64 {
        let known = self.known();
        let stamps = &known.stamps;
        stamps.of.get(&number).copied().unwrap_or(stamps.floor)
    }

    /// Wakes up when a block stands.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The ledger has so many blocks: those that are new are kept back for their codes from now on.
    pub(super) fn committed(&self, height: u64, now: Instant) {
        self.known().fresh.note(height, now);
    }

    /// Below which of the `have` committed blocks, from `next` on, a client may be given blocks; or
    /// until when the next one is kept back at most.
    pub(crate) fn ready_below(&self, next: u64, have: u64, now: Instant) -> Result<u64, Instant> {
        let mut known = self.known();
        known.fresh.note(have, now);
        match known.fresh.until.range(next..have.max(next)).next() {
            Some((first, until)) if *first == next => Err(*until),
            Some((first, _)) => Ok(*first),
            None => Ok(have),
        }
    }

    /// Which block an organization is to be asked for next.
    pub(super) fn next(&self, org: &str) -> u64 {
        // Block 0 is known: by it the channel was joined.
        self.known().next.get(org).copied().unwrap_or(1)
    }

    /// An organization is not asked for blocks below this one any more.
    pub(super) fn skip(&self, org: &str, height: u64) {
        let mut known = self.known();
        let next = known.next.entry(org.to_owned()).or_insert(1);
        *next = height.max(*next);
    }

    /// Notes of whom an organization is heard, or why it is not.
    pub(super) fn note_source(&self, org: &str, source: String) {
        self.known().sources.insert(org.to_owned(), source);
    }

    /// Takes what a peer of this organization says of the block that is its next. Waits for the disk.
    pub(super) fn hear(
        &self,
        org: &str,
        number: u64,
        said: Option<(&Claim, &Ours)>,
        now: Instant,
    ) -> Result<(), String> {
        if self.known().unsaved.len() >= UNSAVED_MAX {
            self.save()?;
        }
        let hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut word = self.word(number)?;
        let (before, given) = (word.standing(self.wanted), word.agreed(self.wanted));
        let heard = said.map_or(Heard::Nothing, |(claim, ours)| word.hear(org, claim, ours));
        let after = word.standing(self.wanted);
        {
            let mut known = self.known();
            known.next.insert(org.to_owned(), number.saturating_add(1));
            known.fresh.note(number.saturating_add(1), now);
            if after >= Standing::Agreed {
                known.fresh.until.remove(&number);
            }
            if heard != Heard::Nothing {
                known.unsaved.insert(number, word.clone());
            }
            if given != word.agreed(self.wanted) {
                known.stamps.change(number);
            }
        }
        drop(hearing);
        if before != after {
            self.changed.send_replace(());
        }
        if let Heard::Dissents(kind) = heard {
            let counter = &self.vitals.metrics.validity_disagreements;
            let labels = [self.channel.as_str(), kind.label()];
            counter.with_label_values(&labels).inc();
            if let Some(left_out) = DISAGREEMENTS.line(std::time::Instant::now()) {
                tracing::error!(
                    target: "validity", channel = %self.channel, number, organization = org, left_out,
                    "peers disagree on a block: {}", word.dispute()
                );
            }
            self.raise(number, &word);
        }
        self.show_heard();
        Ok(())
    }

    /// Writes what is not on disk yet.
    pub(super) fn save(&self) -> Result<(), String> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (unsaved, next) = {
            let known = self.known();
            (known.unsaved.clone(), known.next.clone())
        };
        if unsaved.is_empty() {
            return Ok(());
        }
        let row = |word: &Word| Row {
            bytes: word.encode_to_vec(),
            is_disputed: !word.against.is_empty(),
        };
        let rows = unsaved.iter().map(|(number, word)| (*number, row(word)));
        let written = self.store.put(&rows.collect(), &next);
        written.map_err(|error| format!("what peers say cannot be kept: {error}"))?;
        let mut known = self.known();
        known
            .unsaved
            .retain(|number, word| unsaved.get(number) != Some(word));
        Ok(())
    }

    /// What is known of these blocks, or of the last below `height`. Reads from the disk.
    pub fn report(&self, block: Option<u64>, height: u64) -> Result<Report, String> {
        self.save()?;
        let disputed = self.store.disputed().map_err(|error| error.to_string())?;
        let numbers = match block {
            Some(number) => number..number.saturating_add(1).min(height),
            None => height.saturating_sub(REPORT_LEN_MAX)..height,
        };
        let blocks = numbers.map(|number| {
            let word = self.word(number)?;
            Ok(BlockReport {
                number,
                standing: word.standing(self.wanted),
                codes: word.codes.to_vec(),
                claimed_by: word.by,
                against: word.against.into_iter().map(|d| (d.org, d.what)).collect(),
            })
        });
        let blocks = blocks.collect::<Result<_, String>>()?;
        let heard = self.heard();
        let known = self.known();
        let organizations = known.sources.iter().map(|(org, source)| {
            let next = known.next.get(org).copied().unwrap_or(1);
            (org.clone(), next, source.clone())
        });
        Ok(Report {
            wanted: self.wanted,
            heard,
            disputed: disputed.0,
            first_disputed: disputed.1,
            organizations: organizations.collect(),
            blocks,
        })
    }

    /// What is said of a block.
    fn word(&self, number: u64) -> Result<Word, String> {
        if let Some(word) = self.known().unsaved.get(&number) {
            return Ok(word.clone());
        }
        let row = self.store.said(number).map_err(|error| error.to_string())?;
        let word = Word::decode(&row.unwrap_or_default()[..]);
        word.map_err(|error| format!("what was said of block {number} does not decode: {error}"))
    }

    /// So many organizations have been heard of all blocks below this one.
    fn heard(&self) -> u64 {
        let mut next: Vec<u64> = self.known().next.values().copied().collect();
        next.sort_unstable_by(|a, b| b.cmp(a));
        next.get(self.wanted.saturating_sub(1))
            .copied()
            .unwrap_or(1)
    }

    fn show_heard(&self) {
        let gauge = &self.vitals.metrics.validity_height;
        let height = i64::try_from(self.heard()).unwrap_or(i64::MAX);
        gauge
            .with_label_values(&[self.channel.as_str()])
            .set(height);
    }

    fn raise(&self, number: u64, word: &Word) {
        let reason = format!(
            "peers disagree on block {number} (`tidings channel validity` says on which others): {}",
            word.dispute()
        );
        self.vitals.health.disagreed(&self.channel, &reason);
    }

    // Each change is one step, so a poisoned lock is as good as any.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamps {
    fn change(&mut self, number: u64) {
        self.last += 1;
        self.of.insert(number, self.last);
        if self.of.len() > STAMPS_MAX
            && let Some((_, stamp)) = self.of.pop_first()
        {
            self.floor = self.floor.max(stamp);
        }
    }
}

impl Fresh {
    /// The ledger has so many blocks at this time.
    fn note(&mut self, height: u64, now: Instant) {
        while let Some(first) = self.until.first_entry()
            && *first.get() <= now
        {
            first.remove();
        }
        let first = self.height.max(height.saturating_sub(FRESH_MAX as u64));
        for number in first..height {
            self.until.insert(number, now + HELD_MAX);
            if self.until.len() > FRESH_MAX {
                self.until.pop_first();
            }
        }
        self.height = self.height.max(height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, vitals: &Vitals) -> Validity {
        open_at(dir, vitals, 1)
    }

    fn open_at(dir: &Path, vitals: &Vitals, height: u64) -> Validity {
        let validity = Validity::open(dir, ChannelId::from("ch"), 2, vitals.clone()).unwrap();
        validity.begin(height).unwrap();
        validity
    }

    fn hear(validity: &Validity, org: &str, number: u64, code: u8) {
        hear_of(validity, org, (number, 7), code);
    }

    fn hear_of(validity: &Validity, org: &str, (number, header): (u64, u8), code: u8) {
        let header = vec![header];
        let claim = Claim {
            header: header.clone(),
            is_signed: false,
            codes: Bytes::copy_from_slice(&[code]),
            commit_hash: Bytes::new(),
        };
        let ours = Ours {
            header,
            transactions: 1,
        };
        let said = Some((&claim, &ours));
        validity.hear(org, number, said, Instant::now()).unwrap();
    }

    async fn failed(vitals: &Vitals) -> Vec<String> {
        let failed = vitals.health.failed_checks().await;
        failed.into_iter().map(|check| check.reason).collect()
    }

    #[tokio::test]
    async fn what_was_heard_stands_after_a_restart() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        for number in 1..4 {
            hear(&validity, "A", number, 0);
        }
        hear(&validity, "B", 1, 0);
        hear(&validity, "B", 2, 11);
        assert_eq!(validity.next("B"), 3);
        validity.save().unwrap();
        // Lost, and heard again.
        hear(&validity, "B", 3, 0);
        drop(validity);
        let vitals = Vitals::default();
        let validity = open_at(dir.path(), &vitals, 4);
        assert_eq!((validity.next("A"), validity.next("B")), (4, 3));
        let codes = |number| validity.codes(number, &[7]).map(|codes| codes.to_vec());
        assert_eq!((codes(1), codes(2), codes(3)), (Some(vec![0]), None, None));
        let reason = "peers disagree on block 2 (`tidings channel validity` says on which others): \
                      B has transaction 0 as MVCC_READ_CONFLICT, not as VALID, against A";
        assert_eq!(failed(&vitals).await, [reason]);
        hear(&validity, "B", 3, 0);
        assert_eq!(codes(3), Some(vec![0]));
        let report = validity.report(None, 4).unwrap();
        assert_eq!(
            (report.heard, report.disputed, report.first_disputed),
            (4, 1, Some(2))
        );
        let standings = report.blocks.iter().map(|block| block.standing);
        let expected = [
            Standing::Unknown,
            Standing::Agreed,
            Standing::Disputed,
            Standing::Agreed,
        ];
        assert_eq!(standings.collect::<Vec<_>>(), expected);
        assert_eq!(validity.report(Some(9), 4).unwrap().blocks, []);
        let text = vitals.metrics.text();
        assert!(
            text.contains(r#"tidings_validity_height{channel="ch"} 4"#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn blocks_of_a_ledger_that_was_made_anew_are_heard_again() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        for number in 1..4 {
            hear(&validity, "A", number, 0);
            hear(&validity, "B", number, 11);
        }
        validity.save().unwrap();
        drop(validity);
        let vitals = Vitals::default();
        let validity = open(dir.path(), &vitals);
        assert_eq!((validity.next("A"), validity.next("C")), (1, 1));
        assert_eq!(failed(&vitals).await.len(), 1, "the dispute is remembered");
        // The new chain has another block there, of which nobody says otherwise.
        for (number, org) in [(1, "A"), (1, "B"), (2, "A"), (3, "A")] {
            hear_of(&validity, org, (number, 8), 0);
        }
        assert!(validity.report(None, 4).unwrap().first_disputed.is_none());
        validity.skip("C", 9);
        validity.skip("C", 7);
        assert_eq!(validity.next("C"), 9);
    }

    #[tokio::test]
    async fn codes_that_somebody_contradicts_are_shown_no_more() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        let before = validity.stamp(1);
        hear(&validity, "A", 1, 0);
        assert_eq!((validity.codes(1, &[7]), validity.stamp(1)), (None, before));
        hear(&validity, "B", 1, 0);
        let agreed = validity.stamp(1);
        assert!(validity.codes(1, &[7]).is_some() && agreed > before);
        assert_eq!(validity.codes(1, &[8]), None, "of another chain");
        hear(&validity, "C", 1, 11);
        assert!(validity.codes(1, &[7]).is_none() && validity.stamp(1) > agreed);
        assert_eq!(failed(&vitals).await.len(), 1);
        let counted = vitals
            .metrics
            .validity_disagreements
            .with_label_values(&["ch", "codes"]);
        assert_eq!(counted.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_the_chain_waits_for_codes_and_not_for_long() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        let now = Instant::now();
        assert_eq!(
            validity.ready_below(0, 1, now),
            Ok(1),
            "older than this start"
        );
        assert_eq!(validity.ready_below(1, 3, now), Err(now + HELD_MAX));
        assert_eq!(validity.ready_below(0, 3, now), Ok(1));
        let changes = validity.changes();
        hear(&validity, "A", 1, 0);
        hear(&validity, "B", 1, 0);
        assert!(changes.has_changed().unwrap());
        assert_eq!(validity.ready_below(1, 3, now), Ok(2));
        // What is disputed will not be agreed.
        hear(&validity, "A", 2, 0);
        hear(&validity, "B", 2, 11);
        assert_eq!(validity.ready_below(1, 3, now), Ok(3));
        // Whoever was heard before anybody looked.
        hear(&validity, "A", 3, 0);
        hear(&validity, "B", 3, 0);
        assert_eq!(validity.ready_below(3, 4, now), Ok(4));
        assert_eq!(validity.ready_below(4, 5, now), Err(now + HELD_MAX));
        assert_eq!(validity.ready_below(4, 5, now + HELD_MAX), Ok(5));
    }

    #[test]
    fn what_is_kept_in_memory_has_an_end() {
        let mut stamps = Stamps::default();
        for number in 0..STAMPS_MAX as u64 + 5 {
            stamps.change(number);
        }
        assert_eq!((stamps.of.len(), stamps.floor), (STAMPS_MAX, 5));
        assert!(!stamps.of.contains_key(&4));
        let mut fresh = Fresh::default();
        let now = Instant::now();
        fresh.note(FRESH_MAX as u64, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        fresh.note(FRESH_MAX as u64 + 2, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        assert!(!fresh.until.contains_key(&1));
        fresh.note(u64::MAX, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        fresh.note(u64::MAX, now + HELD_MAX);
        assert!(fresh.until.is_empty());

        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        for number in 1..UNSAVED_MAX as u64 + 1 {
            hear(&validity, "A", number, 0);
        }
        assert_eq!(validity.known().unsaved.len(), UNSAVED_MAX);
        hear(&validity, "A", UNSAVED_MAX as u64 + 1, 0);
        assert_eq!(validity.known().unsaved.len(), 1);
        let row = validity.word(1).unwrap();
        assert_eq!(row.by, ["A"]);
    }
}
