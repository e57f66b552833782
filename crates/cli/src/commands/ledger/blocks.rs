//! `tidings ledger export` and `import`: blocks in files, out of a ledger folder and into one.
//!
//! Promises that a ledger gets no block whose link, data hash and orderer signatures were not
//! found good, and that nothing a file says sizes an allocation. The form of the files is in the
//! ledger crate's `FORMAT.md`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use tidings_ledger::{Audit, BLOCK_LEN_MAX, BlockHash, Ledger, Tip};
use tidings_proto::block::BlockView;

use super::{Judge, Report};
use crate::commands::outline::{plural, visible};
use crate::commands::{print, read_input, unwritable};

/// Blocks that are written to the ledger together, with one sync: no more than so many bytes, or
/// one block.
const GROUP_BYTES_MAX: usize = 8 << 20;
const GROUP_LEN_MAX: usize = 500;

/// What a serialized block begins with: the field of its header. As a length it would be that of a
/// block of ten bytes, and no block is so short.
const BLOCK_BEGINS: u8 = 0x0a;

/// Bytes of the largest varint.
const VARINT_LEN_MAX: usize = 10;

/// Arguments of `ledger export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The folder that holds the .blocks files.
    dir: PathBuf,
    /// The file to write; must not be there yet.
    file: PathBuf,
    /// The first block to write [default: the first that was not pruned].
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// The last block to write [default: the last there is].
    #[arg(long, value_name = "M")]
    to: Option<u64>,
}

/// Arguments of `ledger import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Block 0 of the channel, which is trusted as it is.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Files as `tidings ledger export` or `peer channel fetch` writes them, in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The folder of the ledger; made if it is not there.
    #[arg(value_name = "LEDGER_DIR")]
    dir: PathBuf,
}

impl Export {
    pub(super) fn run(&self) -> Result<()> {
        let Self { dir, file, .. } = self;
        let mut audit = Audit::open(dir)?;
        let first = audit.begin().height();
        let from = self.from.unwrap_or(first);
        let to = self.to.unwrap_or(u64::MAX);
        ensure!(from <= to, "--from {from} is above --to {to}");
        ensure!(
            from >= first,
            "block {from} of {} was pruned: give --from {first} or more",
            dir.display()
        );
        let failed = |error| unwritable(file, &error);
        let opened = File::create_new(file).map_err(failed)?;
        let written = write(&mut audit, &opened, failed, from..=to).and_then(|written| {
            ensure!(
                written > 0 && (self.to.is_none() || audit.tip().height() > to),
                "{} has blocks from {first} to {} only",
                dir.display(),
                audit.tip().height().saturating_sub(1)
            );
            opened.sync_all().map_err(failed)?;
            Ok(written)
        });
        let written = written.inspect_err(|_| {
            // Half a file is of no use to anybody.
            let _ = std::fs::remove_file(file);
        })?;
        let behind = match from {
            0 => String::new(),
            _ => format!(
                "; `ledger import` takes them behind blocks 0 to {} only",
                from - 1
            ),
        };
        print(&format!(
            "wrote {} to {}: from {from} to {}{behind}\n",
            plural(written, "block"),
            file.display(),
            from + written as u64 - 1
        ))
    }
}

/// Writes the blocks of a range, and says how many there were.
fn write(
    audit: &mut Audit,
    file: &File,
    failed: impl Fn(io::Error) -> Error,
    range: RangeInclusive<u64>,
) -> Result<usize> {
    let mut out = BufWriter::new(file);
    let mut written = 0;
    for block in audit {
        let block = block?;
        let number = block.number().unwrap_or_default();
        if number > *range.end() {
            break;
        }
        if range.contains(&number) {
            let len = out.write_all(&varint(block.bytes().len()));
            len.and_then(|()| out.write_all(block.bytes()))
                .map_err(&failed)?;
            written += 1;
        }
    }
    out.flush().map_err(failed)?;
    Ok(written)
}

fn varint(len: usize) -> Vec<u8> {
    let (mut rest, mut bytes) = (len, Vec::new());
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

impl Import {
    pub(super) fn run(&self) -> Result<()> {
        let genesis = read_input(&self.genesis)?;
        let first = BlockView::parse(genesis.clone())
            .ok()
            .filter(|block| block.number() == Some(0))
            .with_context(|| {
                let genesis = self.genesis.display();
                format!("{genesis} is not block 0 of a channel: give what `peer channel fetch oldest` writes")
            })?;
        let fresh = Judge::new(&self.genesis, genesis)?;
        self.check_files()?;
        let (ledger, judge) = self.open(&first, fresh)?;
        let mut intake = Intake::new(&self.dir, ledger, judge, first)?;
        let before = intake.tip.height();
        let outcome = self.files.iter().try_for_each(|file| intake.take(file));
        // What was found good before a fault is kept. Block 0 alone is not: nothing shows that it
        // is of the channel of the files, and with it a node would be in that channel.
        let is_begun = intake.height() > 0 || intake.group.len() > 1;
        let flushed = match outcome.is_ok() || is_begun {
            true => intake.flush(),
            false => Ok(()),
        };
        flushed.and(outcome).with_context(|| {
            let dir = self.dir.display();
            match intake.height().checked_sub(1) {
                Some(last) => format!("the ledger in {dir} ends with block {last}"),
                None => format!("nothing was written to {dir}"),
            }
        })?;
        print(&format!(
            "{} now has {}, of which {} came from the files\n",
            self.dir.display(),
            plural(usize::try_from(intake.height())?, "block"),
            intake.height() - before,
        ))
    }

    /// Whether there is something to read.
    fn check_files(&self) -> Result<()> {
        for file in &self.files {
            let (name, found) = (file.display(), std::fs::metadata(file));
            let found = found.with_context(|| format!("cannot read {name}"))?;
            ensure!(
                !found.is_dir(),
                "{name} is a folder: give files as `tidings ledger export` writes them"
            );
            ensure!(found.len() > 0, "{name} is empty");
        }
        Ok(())
    }

    /// Whether the folder has a ledger already. What is neither for one nor new is refused.
    fn has_ledger(&self) -> Result<bool> {
        let dir = self.dir.display();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                bail!("{dir} is a file: name the folder of the ledger behind the files of blocks")
            }
            entries => entries.with_context(|| format!("cannot list {dir}"))?,
        };
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        let is_ledger = names.iter().any(|name| {
            name == "LOCK"
                || Path::new(name)
                    .extension()
                    .is_some_and(|end| end == "blocks")
        });
        ensure!(
            names.is_empty() || is_ledger,
            "{dir} holds other files and no ledger: name a new or empty folder, or that of a ledger"
        );
        Ok(is_ledger)
    }

    /// The ledger, open for writing, if there is one, and the rules in force at its end. What is
    /// there already is checked from its first block on.
    fn open(&self, genesis: &BlockView, fresh: Judge) -> Result<(Option<Ledger>, Judge)> {
        if !self.has_ledger()? {
            return Ok((None, fresh));
        }
        let dir = &self.dir;
        let ledger = Ledger::open(dir)?;
        if ledger.height() == 0 {
            return Ok((Some(ledger), fresh));
        }
        let held = ledger.reader().block(0)?;
        ensure!(
            held.as_ref().and_then(BlockHash::of) == BlockHash::of(genesis),
            "the ledger in {} begins with another block than {}: name the genesis block of its \
             channel, or another folder",
            dir.display(),
            self.genesis.display()
        );
        let tip = ledger.tip();
        drop(ledger);
        let judge = Report::default().judge(dir)?;
        let ledger = Ledger::open(dir)?;
        ensure!(
            ledger.tip() == tip,
            "another program wrote to {} meanwhile: stop it and try again",
            dir.display()
        );
        Ok((Some(ledger), judge))
    }
}

/// Blocks on their way into a ledger.
struct Intake<'a> {
    dir: &'a Path,
    /// None before the first of them are written to a new one.
    ledger: Option<Ledger>,
    judge: Judge,
    /// The end of the chain with those that wait.
    tip: Tip,
    group: Vec<BlockView>,
    bytes: usize,
}

impl<'a> Intake<'a> {
    /// Where there is no block yet, `genesis` waits with those to come.
    fn new(
        dir: &'a Path,
        ledger: Option<Ledger>,
        judge: Judge,
        genesis: BlockView,
    ) -> Result<Self> {
        let mut intake = Self {
            dir,
            tip: ledger.as_ref().map(Ledger::tip).unwrap_or_default(),
            ledger,
            judge,
            group: Vec::new(),
            bytes: 0,
        };
        if intake.height() == 0 {
            intake.tip = Tip::of(&genesis).context("block 0 has no number")?;
            intake.bytes = genesis.bytes().len();
            intake.group.push(genesis);
        }
        Ok(intake)
    }

    /// How many blocks are written.
    fn height(&self) -> u64 {
        self.ledger.as_ref().map_or(0, Ledger::height)
    }

    /// Takes every block of a file.
    fn take(&mut self, path: &Path) -> Result<()> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let mut blocks = Blocks::new(file).with_context(|| format!("cannot read {name}"))?;
        loop {
            let at = blocks.offset;
            let place = || format!("{name}, byte {at}");
            let Some(bytes) = blocks.next().with_context(place)? else {
                ensure!(at > 0, "{name} is empty: give a file with blocks");
                return Ok(());
            };
            self.block(bytes).with_context(place)?;
        }
    }

    fn block(&mut self, bytes: Bytes) -> Result<()> {
        let block = BlockView::parse(bytes).context(
            "no block begins here, as in a file that `tidings ledger export` or `peer channel fetch` \
             writes",
        )?;
        let header = block.header().context("the block here has no header")?;
        let (number, next) = (header.number, self.tip.height());
        if number < next {
            return self.compare(number, &block);
        }
        ensure!(
            number == next,
            "block {number} is here, but block {next} is next, and no block can be verified without \
             those before it: give the files with blocks {next} to {last} before this one; where \
             this one is of a pruned ledger, take them from a node that keeps everything (`tidings \
             ledger export --from {next} --to {last}`), or one by one with `peer channel fetch`",
            last = number - 1
        );
        let last = self.tip.last_hash();
        ensure!(
            last.is_some_and(|hash| header.previous_hash[..] == hash.as_bytes()[..]),
            "block {number} does not follow block {} of the ledger: the file is of another chain, \
             or one of the two was altered",
            number.saturating_sub(1)
        );
        self.judge
            .judge(&block, number)
            .map_err(|reason| anyhow!("block {number} is refused: {}", visible(&reason)))?;
        self.tip = Tip::of(&block).context("the number of the block here is too large")?;
        self.bytes += block.bytes().len();
        self.group.push(block);
        if self.bytes >= GROUP_BYTES_MAX || self.group.len() >= GROUP_LEN_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// A block that is in the ledger already, or waits, is passed over, but only if it is the same.
    fn compare(&self, number: u64, block: &BlockView) -> Result<()> {
        let held = match (number.checked_sub(self.height()), &self.ledger) {
            (Some(at), _) => self.group.get(usize::try_from(at)?).cloned(),
            (None, Some(ledger)) => ledger.reader().block(number)?,
            (None, None) => None,
        };
        let is_other = |held: &BlockView| BlockHash::of(held) != BlockHash::of(block);
        ensure!(
            !held.as_ref().is_some_and(is_other),
            "block {number} is not the one that {}: the file is of another chain, or was altered",
            match number {
                0 => "--genesis names",
                _ => "the ledger has",
            }
        );
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(self.dir)?,
        };
        self.ledger.insert(ledger).append(&self.group)?;
        self.group.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Blocks of a file, one after the other.
struct Blocks<R> {
    input: BufReader<R>,
    /// Whether the file is one block without a length.
    is_bare: bool,
    /// Where the next one begins.
    offset: u64,
}

impl<R: Read> Blocks<R> {
    fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::new(input);
        let is_bare = input.fill_buf()?.first() == Some(&BLOCK_BEGINS);
        Ok(Self {
            input,
            is_bare,
            offset: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Bytes>> {
        if self.is_bare {
            if self.offset > 0 {
                return Ok(None);
            }
            let block = self.read(BLOCK_LEN_MAX + 1)?;
            let most = BLOCK_LEN_MAX;
            ensure!(
                block.len() <= most,
                "larger than the {most} bytes of a block"
            );
            return Ok(Some(block));
        }
        let Some(len) = self.len()? else {
            return Ok(None);
        };
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= BLOCK_LEN_MAX);
        let len = len.with_context(|| {
            format!(
                "what stands here as the length of a block is more than {BLOCK_LEN_MAX}: this is \
                 no file of blocks, or bytes were lost before here"
            )
        })?;
        let block = self.read(len)?;
        ensure!(
            block.len() == len,
            "the file ends {} bytes into a block of {len}: copy or export it again",
            block.len()
        );
        Ok(Some(block))
    }

    /// The length in front of a block; none at the end.
    fn len(&mut self) -> Result<Option<u64>> {
        let mut len = 0_u64;
        for at in 0..VARINT_LEN_MAX {
            let mut byte = [0];
            match self.input.read_exact(&mut byte) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && at == 0 => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    bail!("the file ends in the length of a block: copy or export it again")
                }
                read => read?,
            }
            self.offset += 1;
            len |= u64::from(byte[0] & 0x7f)
                .checked_shl(7 * at as u32)
                .unwrap_or(0);
            if byte[0] < 0x80 {
                return Ok(Some(len));
            }
        }
        // Read as the largest, which is refused.
        Ok(Some(u64::MAX))
    }

    /// So many bytes, or those that are left. What is not there takes no memory.
    fn read(&mut self, len: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        (&mut self.input).take(len as u64).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut blocks = Blocks::new(file)?;
        let mut all = Vec::new();
        while let Some(block) = blocks.next()? {
            all.push(block.to_vec());
        }
        Ok(all)
    }

    #[test]
    fn a_stream_is_what_protobuf_libraries_write() {
        let long = vec![7; 300];
        let file = [&[3][..], b"abc", &[0xac, 0x02], &long].concat();
        assert_eq!(read(&file).unwrap(), [b"abc".to_vec(), long]);
        assert_eq!((varint(3), varint(300)), (vec![3], vec![0xac, 0x02]));
        assert!(read(&[]).unwrap().is_empty());
        let bare = [&[BLOCK_BEGINS][..], b"anything"].concat();
        assert_eq!(read(&bare).unwrap(), [bare]);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused_and_takes_no_memory() {
        for (file, expected) in [
            (&[3, 1, 2][..], "ends 2 bytes into a block of 3"),
            (&[0x80], "ends in the length"),
            (&[0xff; 30], "is more than"),
            // The limit itself is believed, and one above is not.
            (&varint(BLOCK_LEN_MAX), "ends 0 bytes into a block"),
            (&varint(BLOCK_LEN_MAX + 1), "is more than"),
        ] {
            let error = read(file).unwrap_err().to_string();
            assert!(error.contains(expected), "{file:?}: {error}");
        }
    }
}
