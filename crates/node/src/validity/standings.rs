//! Where each block of a channel stands: what was heard, kept on disk, and asked for by those who
//! serve clients.
//!
//! Promises: what [`Validity::agreed`] gives was agreed when it was asked; whoever waits for a block is
//! told when it stands, and waits no longer than `HELD_MAX`. What was heard in the last second
//! before a crash is heard again. Whoever may wait for the disk calls what reads or hears; all else
//! only looks into memory.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message as _;
use tidings_gossip::id::ChannelId;
use tidings_ledger::{
    StoreOpenError,
    validity::{Row, ValidityStore},
};
use tokio::{sync::watch, time::Instant};

use super::{
    known::{Known, Source},
    word::{Claim, Heard, Ours, Standing, Word, hash},
};
use crate::{logging::Seldom, vitals::Vitals};

/// Rows that are not on disk yet: a second of live blocks, or a write while catching up.
const UNSAVED_MAX: usize = 256;

static DISAGREEMENTS: Seldom = Seldom::new();

/// What is known of the validity of one channel's transactions.
#[derive(Debug)]
pub struct Validity {
    pub(super) channel: ChannelId,
    /// How many organizations have to agree.
    pub(super) wanted: usize,
    vitals: Vitals,
    store: ValidityStore,
    /// In memory, to be looked at by anybody. Who waits for a block is woken when it stands, and when
    /// an organization falls silent.
    pub(super) known: watch::Sender<Known>,
    /// Held from reading a row until what comes of it is kept, and while rows are written: followers
    /// of several organizations hear of the same block, each on a thread that may wait for the disk.
    turn: Mutex<()>,
}

/// Of which blocks which codes are agreed.
#[derive(Debug, Default)]
pub(crate) struct Agreed(BTreeMap<u64, (Bytes, Bytes)>);

impl Agreed {
    /// The codes of the block with this header, if they are agreed.
    pub(crate) fn codes(&self, number: u64, header: &[u8]) -> Option<&Bytes> {
        let (block, codes) = self.0.get(&number)?;
        (*block == hash(header)).then_some(codes)
    }
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
            known: watch::channel(known).0,
            turn: Mutex::new(()),
        })
    }

    /// The channel is at work, with so many blocks: nobody waits for those. What is disputed from
    /// before is told again. A ledger that was made anew is shorter, and its blocks are heard again.
    pub(crate) fn begin(&self, height: u64) -> Result<(), String> {
        self.change(|known| {
            known.fresh.height = height;
            known.sources.clear();
            for next in known.next.values_mut() {
                *next = height.clamp(1, (*next).max(1));
            }
        });
        self.show_heard();
        let (disputed, first) = self.store.disputed().map_err(|error| error.to_string())?;
        let gauge = &self.vitals.metrics.validity_disputed;
        let gauge = gauge.with_label_values(&[self.channel.as_str()]);
        gauge.set(i64::try_from(disputed).unwrap_or(i64::MAX));
        if let Some(number) = first {
            let word = self.word(number)?;
            self.raise(number, &word);
        }
        Ok(())
    }

    /// Of which of these blocks which codes are agreed. Reads from the disk.
    pub(crate) fn agreed(&self, numbers: Range<u64>) -> Result<Agreed, String> {
        let words = self.words(numbers)?.into_iter();
        let agreed = words.filter_map(|(number, word)| Some((number, word.agreed(self.wanted)?)));
        Ok(Agreed(agreed.collect()))
    }

    /// What changes with the codes of this block.
    pub(crate) fn stamp(&self, number: u64) -> u64 {
        self.known.borrow().stamps.of(number)
    }

    /// The same for each of these blocks.
    pub(crate) fn stamps(&self, numbers: Range<u64>) -> Vec<u64> {
        let known = self.known.borrow();
        numbers.map(|number| known.stamps.of(number)).collect()
    }

    /// Wakes up when a block stands, or when there is less to wait for.
    pub(crate) fn changes(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.known.subscribe();
        async move {
            // Nobody is told any more when there is nobody to tell.
            let _ = changes.changed().await;
        }
    }

    /// The ledger has so many blocks: those that are new are kept back for their codes from now on.
    pub(super) fn committed(&self, height: u64, now: Instant) {
        self.change(|known| {
            known.fresh.note(height, now);
        });
    }

    /// Below which of the `have` committed blocks, from `next` on, a client may be given blocks; or
    /// until when the next one is kept back at most.
    pub(crate) fn ready_below(&self, next: u64, have: u64, now: Instant) -> Result<u64, Instant> {
        if self.known.borrow().fresh.height < have {
            self.committed(have, now);
        }
        let known = self.known.borrow();
        known.ready_below(next, have, self.wanted, now)
    }

    /// Which block an organization is to be asked for next.
    pub(super) fn next(&self, org: &str) -> u64 {
        // Block 0 is known: by it the channel was joined.
        self.known.borrow().next.get(org).copied().unwrap_or(1)
    }

    /// An organization is not asked for blocks below this one any more.
    pub(super) fn skip(&self, org: &str, height: u64) {
        self.change(|known| {
            known.go_on(org, height);
        });
        self.show_heard();
    }

    /// Whether an organization is heard of this peer.
    pub(super) fn is_heard_of(&self, org: &str, endpoint: &str) -> bool {
        let known = self.known.borrow();
        matches!(known.sources.get(org), Some(Source::Heard(of)) if of == endpoint)
    }

    /// Notes of whom an organization is heard, or why it is not. Says whether it was the other before.
    pub(super) fn note_source(&self, org: &str, source: Source) -> bool {
        self.change_and_wake(|known| known.note_source(org, source))
    }

    /// Takes what this peer of this organization says of a block. Waits for the disk.
    pub(super) fn hear(
        &self,
        (org, peer): (&str, &str),
        number: u64,
        said: Option<(&Claim, &Ours)>,
        now: Instant,
    ) -> Result<(), String> {
        let _turn = self.turn();
        if self.known.borrow().unsaved.len() >= UNSAVED_MAX {
            self.write()?;
        }
        let mut word = self.word(number)?;
        let (before, given) = (word.standing(self.wanted), word.agreed(self.wanted));
        let heard = said.map_or(Heard::Nothing, |(claim, ours)| {
            word.hear(org, peer, claim, ours)
        });
        let after = word.standing(self.wanted);
        self.change_and_wake(|known| {
            known.go_on(org, number.saturating_add(1));
            known.fresh.note(number.saturating_add(1), now);
            if heard != Heard::Nothing {
                known.unsaved.insert(number, word.clone());
            }
            if given != word.agreed(self.wanted) {
                known.stamps.change(number);
            }
            after >= Standing::Agreed && known.fresh.release(number)
        });
        self.show_disputed(before, after);
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
        let _turn = self.turn();
        self.write()
    }

    /// The same, by whoever has the turn.
    fn write(&self) -> Result<(), String> {
        let (unsaved, next) = {
            let known = self.known.borrow();
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
        // Nobody else has added to them meanwhile.
        self.change(|known| {
            known.unsaved.clear();
        });
        Ok(())
    }

    /// How many blocks are disputed, and the first of them. Waits for the disk.
    pub(super) fn disputed(&self) -> Result<(u64, Option<u64>), String> {
        self.save()?;
        self.store.disputed().map_err(|error| error.to_string())
    }

    /// What is said of these blocks; nothing of those that are left out. Reads from the disk.
    pub(super) fn words(&self, numbers: Range<u64>) -> Result<BTreeMap<u64, Word>, String> {
        // First from memory: what goes from there is on disk by then.
        let unsaved = {
            let known = self.known.borrow();
            let unsaved = known.unsaved.range(numbers.clone());
            let unsaved = unsaved.map(|(number, word)| (*number, word.clone()));
            unsaved.collect::<BTreeMap<_, _>>()
        };
        let rows = self
            .store
            .said(numbers)
            .map_err(|error| error.to_string())?;
        let words = rows.into_iter().map(|(number, row)| {
            let word = Word::decode(&row[..]).map_err(|error| {
                format!("what was said of block {number} does not decode: {error}")
            })?;
            Ok((number, word))
        });
        let mut words = words.collect::<Result<BTreeMap<_, _>, String>>()?;
        words.extend(unsaved);
        Ok(words)
    }

    fn word(&self, number: u64) -> Result<Word, String> {
        let mut words = self.words(number..number.saturating_add(1))?;
        Ok(words.remove(&number).unwrap_or_default())
    }

    /// So many organizations have been heard of all blocks below this one.
    pub(super) fn heard(&self) -> u64 {
        let mut next: Vec<u64> = self.known.borrow().next.values().copied().collect();
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

    /// A block whose ledger was made anew may be disputed no more.
    fn show_disputed(&self, before: Standing, after: Standing) {
        let gauge = &self.vitals.metrics.validity_disputed;
        let gauge = gauge.with_label_values(&[self.channel.as_str()]);
        let is_disputed = |standing| i64::from(standing == Standing::Disputed);
        gauge.add(is_disputed(after) - is_disputed(before));
        if gauge.get() == 0 {
            self.vitals.health.agreed(&self.channel);
        }
    }

    fn raise(&self, number: u64, word: &Word) {
        let reason = format!(
            "peers disagree on block {number} (`tidings channel validity` says on which others): {}",
            word.dispute()
        );
        self.vitals.health.disagreed(&self.channel, &reason);
    }

    /// Changes what is in memory in one step, of which nobody needs to be told.
    fn change(&self, step: impl FnOnce(&mut Known)) {
        self.change_and_wake(|known| {
            step(known);
            false
        });
    }

    /// Changes what is in memory in one step, and wakes those who wait if that says so.
    pub(super) fn change_and_wake(&self, step: impl FnOnce(&mut Known) -> bool) -> bool {
        self.known.send_if_modified(step)
    }

    // It guards no value, so a poisoned lock is as good as any.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (said, peer) = (Some((&claim, &ours)), format!("{org}:1"));
        let heard = validity.hear((org, &peer), number, said, Instant::now());
        heard.unwrap();
    }

    fn codes(validity: &Validity, number: u64, header: u8) -> Option<Vec<u8>> {
        let agreed = validity.agreed(1..9).unwrap();
        agreed.codes(number, &[header]).map(|codes| codes.to_vec())
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
        let codes = |number| codes(&validity, number, 7);
        assert_eq!((codes(1), codes(2), codes(3)), (Some(vec![0]), None, None));
        let reason = "peers disagree on block 2 (`tidings channel validity` says on which others): \
                      B has transaction 0 as MVCC_READ_CONFLICT, not as VALID (B:1), against A";
        assert_eq!(failed(&vitals).await, [reason]);
        let shown = |text: &str| vitals.metrics.text().contains(text);
        assert!(shown(r#"tidings_validity_disputed{channel="ch"} 1"#));
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
        let one = validity.report(Some(3), 4).unwrap();
        assert_eq!((one.blocks[0].number, one.blocks.len()), (3, 1));
        let refused = validity.report(Some(4), 4).unwrap_err();
        assert_eq!(refused, "block 4 is not there: channel 'ch' has height 4");
        assert!(shown(r#"tidings_validity_height{channel="ch"} 4"#));
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
        let text = vitals.metrics.text();
        assert!(text.contains(r#"tidings_validity_disputed{channel="ch"} 0"#));
        validity.skip("C", 9);
        assert_eq!(validity.next("C"), 9);
    }

    #[tokio::test]
    async fn codes_that_somebody_contradicts_are_shown_no_more() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        let before = validity.stamp(1);
        hear(&validity, "A", 1, 0);
        assert_eq!((codes(&validity, 1, 7), validity.stamp(1)), (None, before));
        hear(&validity, "B", 1, 0);
        let agreed = validity.stamp(1);
        assert!(codes(&validity, 1, 7).is_some() && agreed > before);
        assert_eq!(codes(&validity, 1, 8), None, "of another chain");
        hear(&validity, "C", 1, 11);
        assert!(codes(&validity, 1, 7).is_none() && validity.stamp(1) > agreed);
        assert_eq!(failed(&vitals).await.len(), 1);
        let counted = vitals
            .metrics
            .validity_disagreements
            .with_label_values(&["ch", "codes"]);
        assert_eq!(counted.get(), 1);
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_a_block_stands_or_will_not() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        for org in ["A", "B"] {
            validity.note_source(org, Source::Heard(format!("{org}:1")));
        }
        let now = Instant::now();
        let waits = |next, have| validity.ready_below(next, have, now).is_err();
        assert!(!waits(0, 1), "older than this start");
        assert!(waits(1, 3));
        let changes = validity.changes();
        hear(&validity, "A", 1, 0);
        hear(&validity, "B", 1, 0);
        changes.await;
        assert_eq!(validity.ready_below(1, 3, now), Ok(2));
        // What is disputed will not be agreed.
        hear(&validity, "A", 2, 0);
        hear(&validity, "B", 2, 11);
        assert_eq!(validity.ready_below(1, 3, now), Ok(3));
        // Whoever was heard before anybody looked.
        hear(&validity, "A", 3, 0);
        hear(&validity, "B", 3, 0);
        assert_eq!(validity.ready_below(3, 4, now), Ok(4));
        assert!(waits(4, 5));
        let changes = validity.changes();
        validity.note_source("B", Source::Silent("is gone".to_owned()));
        changes.await;
        assert!(!waits(4, 5));
    }

    #[test]
    fn rows_that_wait_for_the_disk_have_an_end() {
        let (dir, vitals) = (tempfile::tempdir().unwrap(), Vitals::default());
        let validity = open(dir.path(), &vitals);
        for number in 1..UNSAVED_MAX as u64 + 1 {
            hear(&validity, "A", number, 0);
        }
        assert_eq!(validity.known.borrow().unsaved.len(), UNSAVED_MAX);
        hear(&validity, "A", UNSAVED_MAX as u64 + 1, 0);
        assert_eq!(validity.known.borrow().unsaved.len(), 1);
        let row = validity.word(1).unwrap();
        assert_eq!(row.by, ["A"]);
    }
}
