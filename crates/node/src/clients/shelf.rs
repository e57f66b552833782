//! Blocks as clients get them, made once for all who read.
//!
//! A block is read and encoded when the first client comes to it, and kept while there is room;
//! clients that come at the same time wait for the one reading. Promises that of what nobody
//! signed nothing is passed off as known: a block carries validation codes only as
//! [`codes_in`] has them, and no commit hash. What was made with other codes is not given any more.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    block::BlockView,
    common::{Block, BlockData, BlockMetadata, BlockMetadataIndex, Status},
    protos::{DeliverResponse, TxValidationCode, deliver_response::Type},
};
use tokio::sync::OnceCell;

use super::filtered::filtered;
use crate::{directory::Served, reads::Reads, validity::Agreed};

/// Bytes of blocks that are kept. Clients that follow the chain are at its end, within a few
/// blocks; those that replay it from the start go side by side when they begin together.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Blocks that are kept, however small: each costs some hundred bytes beside its own.
const KEPT_MAX: usize = 32_768;

/// Blocks, and bytes of them, that are made together with one that somebody came to: its reader comes
/// to them next. Else those who replay a chain side by side would all wait for each block of it.
const AHEAD_LEN_MAX: usize = 64;
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// As what a block is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Whole.
    Whole,
    /// Without transactions, unless it changes the configuration.
    Header,
    /// The events of its transactions.
    Filtered,
}

/// Which opening of a channel, as what, which block, and by its stamp with which codes.
type Name = (u64, Form, u64, u64);

type Cell = Arc<OnceCell<Bytes>>;

/// What is kept.
#[derive(Debug)]
pub(super) struct Shelf {
    kept: Mutex<Kept>,
    /// For what else clients ask of the disk.
    pub(super) reads: Reads,
}

#[derive(Debug, Default)]
struct Kept {
    cells: BTreeMap<Name, Cell>,
    /// Oldest first, with the bytes that count for it.
    order: VecDeque<(Name, Cell, usize)>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::new(Kept::default()),
            reads: Reads::default(),
        }
    }

    /// The serialized `DeliverResponse` with the first of these blocks, which are below the height;
    /// somebody is about to come to the others.
    pub(super) async fn response(
        &self,
        served: &Arc<Served>,
        form: Form,
        numbers: Range<u64>,
    ) -> Result<Bytes, String> {
        let name = name(served, form, numbers.start);
        let cell = Arc::clone(self.lock().cells.entry(name).or_default());
        let made = cell
            .get_or_try_init(|| async {
                let ahead = self.absent(served, form, numbers.start + 1..numbers.end);
                let (made, more) = self.make(served, form, numbers.start, ahead.len()).await?;
                let mut kept = self.lock();
                kept.keep(name, &cell, made.len());
                for (name, made) in ahead.into_iter().zip(more) {
                    kept.put(name, made);
                }
                Ok(made)
            })
            .await;
        if made.is_err() {
            self.lock().forget(name, &cell);
        }
        made.cloned()
    }

    /// What is there of the blocks behind, up to `len_max` of them or `bytes_max` bytes: for a
    /// client that would else come back for each.
    pub(super) fn more(
        &self,
        served: &Arc<Served>,
        form: Form,
        numbers: Range<u64>,
        (len_max, bytes_max): (usize, usize),
    ) -> Vec<Bytes> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let end = numbers
            .end
            .min(numbers.start.saturating_add(len_max as u64));
        let names = names(served, form, numbers.start..end);
        let kept = self.lock();
        for name in names {
            let cell = kept.cells.get(&name);
            let Some(made) = cell.and_then(|cell| cell.get()) else {
                break;
            };
            bytes += made.len();
            if bytes > bytes_max {
                break;
            }
            found.push(made.clone());
        }
        found
    }

    /// The first of these blocks, which nobody has come to.
    fn absent(&self, served: &Served, form: Form, numbers: Range<u64>) -> Vec<Name> {
        let end = numbers.end.min(numbers.start + AHEAD_LEN_MAX as u64);
        let names = names(served, form, numbers.start..end).into_iter();
        let kept = self.lock();
        names
            .take_while(|name| !kept.cells.contains_key(name))
            .collect()
    }

    /// A block, and up to so many behind it.
    async fn make(
        &self,
        served: &Arc<Served>,
        form: Form,
        number: u64,
        ahead: usize,
    ) -> Result<(Bytes, Vec<Bytes>), String> {
        let served = Arc::clone(served);
        let read = move || {
            // What is wrong with a block behind it is none of its business.
            let (agreed, ahead) = match agreed(&served, number..number + 1 + ahead as u64) {
                Ok(of_all) => (of_all, ahead),
                Err(_) => (agreed(&served, number..number + 1)?, 0),
            };
            let make = |number| Ok(response(&agreed, &block_of(&served, number)?, form));
            let first: Bytes = make(number)?;
            let (mut bytes, mut more) = (first.len(), Vec::new());
            for number in (number + 1..).take(ahead) {
                // Whoever comes to what cannot be read is told.
                let Ok::<_, String>(made) = make(number) else {
                    break;
                };
                bytes += made.len();
                if bytes > AHEAD_BYTES_MAX {
                    break;
                }
                more.push(made);
            }
            Ok((first, more))
        };
        self.reads.read(read).await
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Keeps what was made before anybody came to it, unless somebody has meanwhile.
    fn put(&mut self, name: Name, made: Bytes) {
        let (cell, len) = (Arc::clone(self.cells.entry(name).or_default()), made.len());
        if cell.set(made).is_ok() {
            self.keep(name, &cell, len);
        }
    }

    /// Counts what was made, and makes room for it. What another failure made others forget is
    /// not kept.
    fn keep(&mut self, name: Name, cell: &Cell, len: usize) {
        if !self
            .cells
            .get(&name)
            .is_some_and(|kept| Arc::ptr_eq(kept, cell))
        {
            return;
        }
        self.order.push_back((name, Arc::clone(cell), len));
        self.bytes += len;
        while self.bytes > KEPT_BYTES_MAX || self.order.len() > KEPT_MAX {
            let Some((oldest, cell, len)) = self.order.pop_front() else {
                return;
            };
            self.bytes -= len;
            if self
                .cells
                .get(&oldest)
                .is_some_and(|kept| Arc::ptr_eq(kept, &cell))
            {
                self.cells.remove(&oldest);
            }
        }
    }

    /// What could not be made is tried again by the next one.
    fn forget(&mut self, name: Name, cell: &Cell) {
        let same = |kept: &Cell| Arc::ptr_eq(kept, cell) && !kept.initialized();
        if self.cells.get(&name).is_some_and(same) {
            self.cells.remove(&name);
        }
    }
}

fn name(served: &Served, form: Form, number: u64) -> Name {
    let stamp = served.validity.as_ref().map(|known| known.stamp(number));
    (served.serial, form, number, stamp.unwrap_or_default())
}

/// The names of these blocks as they are before their codes are looked at.
fn names(served: &Served, form: Form, numbers: Range<u64>) -> Vec<Name> {
    let stamps = match &served.validity {
        Some(known) => known.stamps(numbers.clone()),
        None => numbers.clone().map(|_| 0).collect(),
    };
    let named = numbers.zip(stamps);
    named
        .map(|(number, stamp)| (served.serial, form, number, stamp))
        .collect()
}

/// What peers agree on of these blocks, if they are asked. Reads from the disk.
pub(crate) fn agreed(served: &Served, numbers: Range<u64>) -> Result<Agreed, String> {
    let known = served.validity.as_ref();
    known.map_or_else(|| Ok(Agreed::default()), |known| known.agreed(numbers))
}

/// [`codes_in`] for one block alone. Reads from the disk.
pub(crate) fn codes(served: &Served, block: &BlockView) -> Result<Vec<u8>, String> {
    Ok(codes_in(&agreed_of(served, block)?, block))
}

fn agreed_of(served: &Served, block: &BlockView) -> Result<Agreed, String> {
    let number = block.number().unwrap_or_default();
    agreed(served, number..number.saturating_add(1))
}

/// One code of `TxValidationCode` for each transaction, for what is known of it: that of block 0,
/// by which the channel was joined, is valid. All others have those that peers agree on. Where they
/// do not, or are not asked, nothing is known, so that they are not validated, which no client takes
/// for valid.
pub(crate) fn codes_in(agreed: &Agreed, block: &BlockView) -> Vec<u8> {
    let number = block.number().unwrap_or_default();
    let code = if number == 0 {
        TxValidationCode::Valid
    } else {
        let header = block.header_asn1().unwrap_or_default();
        if let Some(agreed) = agreed.codes(number, &header) {
            return agreed.to_vec();
        }
        TxValidationCode::NotValidated
    };
    let code = u8::try_from(i32::from(code)).expect("codes are bytes");
    vec![code; block.transactions_len()]
}

/// A block that is below the height.
pub(crate) fn block_of(served: &Served, number: u64) -> Result<BlockView, String> {
    let block = served.blocks.block(number);
    block
        .map_err(|error| error.to_string())?
        .ok_or_else(|| match served.blocks.first() {
            first if number < first => {
                format!("block {number} was pruned: this peer has blocks from {first} on")
            }
            _ => format!("block {number} is not in the ledger"),
        })
}

/// The block for a client.
pub(super) fn block_for_clients(served: &Served, view: &BlockView) -> Result<Block, String> {
    Ok(formed(&agreed_of(served, view)?, view, Form::Whole))
}

fn formed(agreed: &Agreed, view: &BlockView, form: Form) -> Block {
    let whole = form != Form::Header || view.is_config_block();
    let codes_at = BlockMetadataIndex::TransactionsFilter as usize;
    let mut metadata: Vec<Bytes> = view
        .metadata()
        .take(BlockMetadataIndex::CommitHash as usize)
        .collect();
    if metadata.len() <= codes_at {
        metadata.resize(codes_at + 1, Bytes::new());
    }
    if let Some(entry) = metadata.get_mut(codes_at) {
        *entry = codes_in(agreed, view).into();
    }
    Block {
        header: view.header().cloned(),
        data: whole.then(|| BlockData {
            data: view.transactions().collect(),
        }),
        metadata: Some(BlockMetadata { metadata }),
    }
}

fn response(agreed: &Agreed, view: &BlockView, form: Form) -> Bytes {
    let content = match form {
        Form::Whole | Form::Header => Type::Block(formed(agreed, view, form)),
        // As Go answers to a block that says something that does not decode.
        Form::Filtered => filtered(view, &codes_in(agreed, view)).map_or_else(
            |_undecodable| Type::Status(Status::BadRequest.into()),
            Type::FilteredBlock,
        ),
    };
    let response = DeliverResponse {
        r#type: Some(content),
    };
    response.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::Scene;

    #[tokio::test]
    async fn who_comes_to_a_block_has_some_behind_it_made() {
        let mut scene = Scene::new();
        for _ in 0..AHEAD_LEN_MAX + 10 {
            scene.commit(vec![]);
        }
        for _ in 0..3 {
            scene.commit(vec![vec![7; AHEAD_BYTES_MAX / 2 - 1000].into()]);
        }
        let (shelf, served) = (Shelf::new(), scene.served());
        let end = served.blocks.height();
        let there = |from| {
            let all = (1000, usize::MAX);
            shelf.more(&served, Form::Whole, from..end, all).len()
        };
        let come = |numbers| shelf.response(&served, Form::Whole, numbers);
        come(0..3).await.unwrap();
        assert_eq!(there(1), 2, "no further than somebody goes");
        come(3..end).await.unwrap();
        assert_eq!(there(4), AHEAD_LEN_MAX);
        come(end - 3..end).await.unwrap();
        assert_eq!(there(end - 2), 1, "two are as many bytes as may be");
    }

    fn keep(kept: &mut Kept, number: u64, len: usize) {
        let name = (1, Form::Whole, number, 0);
        let cell = Arc::clone(kept.cells.entry(name).or_default());
        kept.keep(name, &cell, len);
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut kept = Kept::default();
        for number in 0..KEPT_MAX as u64 + 10 {
            keep(&mut kept, number, 10);
        }
        assert_eq!((kept.cells.len(), kept.order.len()), (KEPT_MAX, KEPT_MAX));
        assert!(
            !kept.cells.contains_key(&(1, Form::Whole, 9, 0)),
            "the oldest went"
        );
        // A large one takes the place of many, and one beyond everything its own.
        keep(&mut kept, 1 << 40, KEPT_BYTES_MAX - 20);
        assert_eq!((kept.cells.len(), kept.bytes), (3, KEPT_BYTES_MAX));
        keep(&mut kept, 1 << 41, KEPT_BYTES_MAX + 1);
        assert_eq!((kept.cells.len(), kept.bytes), (0, 0));
    }

    #[test]
    fn what_was_made_ahead_is_kept_unless_somebody_has_come_to_it() {
        let mut kept = Kept::default();
        let name = |number| (1, Form::Whole, number, 0);
        let made = Bytes::from_static(b"made");
        kept.put(name(1), made.clone());
        kept.put(name(1), made.clone());
        assert_eq!((kept.order.len(), kept.bytes), (1, 4));
        let here = kept.cells[&name(1)].get();
        assert_eq!(here, Some(&made));
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let mut kept = Kept::default();
        let name = (1, Form::Filtered, 7, 0);
        let failed = Arc::clone(kept.cells.entry(name).or_default());
        kept.forget(name, &failed);
        assert!(kept.cells.is_empty());
        // What somebody else has made by then stays.
        let made = Arc::new(OnceCell::new_with(Some(Bytes::from_static(b"made"))));
        kept.cells.insert(name, Arc::clone(&made));
        kept.forget(name, &failed);
        kept.forget(name, &made);
        assert_eq!(kept.cells.len(), 1);
        // Who waited where one failed makes it for himself.
        kept.keep(name, &failed, 10);
        assert_eq!((kept.order.len(), kept.bytes), (0, 0));
    }
}
