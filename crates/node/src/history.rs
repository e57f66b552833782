//! Which configuration held when, by the blocks of a ledger alone.
//!
//! What a block says of the last configuration block is believed if that is one: an older one that
//! is named is taken, and newer ones are passed over. The signatures over a block cover what it says
//! of this, so only those who sign blocks can make it wrong; and Fabric believes it, too: its
//! orderers find the configuration in force by it when they start, its peers the configuration block
//! that clients ask for. Where no configuration block is named, the block below is asked.

use tidings_ledger::Reader;
use tidings_msp::{block::last_config_index, channel_config::ChannelConfig};
use tidings_proto::block::BlockView;

use crate::crypto::next_config;

/// The last block of a ledger that changed the configuration; the first one if none did since.
pub fn last_config(ledger: &Reader) -> Result<BlockView, String> {
    last_below(ledger.height(), &of(ledger))
}

/// The configuration in force at the end of a ledger.
pub(crate) fn config_in_force(ledger: &Reader) -> Result<ChannelConfig, String> {
    config_below(ledger.height(), of(ledger))
}

/// The configuration in force below this block, which is not the first: the first one and
/// everything that became of it, by the rules under which its blocks were committed. `read` has
/// nothing for a block that was pruned, which is no configuration block then.
pub(crate) fn config_below(
    number: u64,
    read: impl Fn(u64) -> Result<Option<BlockView>, String>,
) -> Result<ChannelConfig, String> {
    let (mut configs, mut below) = (Vec::new(), number);
    let genesis = loop {
        let config = last_below(below, &read)?;
        match config.number() {
            Some(number @ 1..) if number < below => {
                configs.push(number);
                below = number;
            }
            _ => break config,
        }
    };
    let first = ChannelConfig::from_config_block(genesis.bytes());
    let mut config = first.map_err(|error| error.to_string())?;
    for number in configs.into_iter().rev() {
        let block = read(number)?.ok_or_else(|| format!("block {number} is missing"))?;
        let next = next_config(&config, block.bytes());
        config = next
            .map_err(|reason| format!("block {number}: {reason}"))?
            .unwrap_or(config);
    }
    Ok(config)
}

/// The last configuration block below this one.
fn last_below(
    number: u64,
    read: &impl Fn(u64) -> Result<Option<BlockView>, String>,
) -> Result<BlockView, String> {
    for below in (2..=number).rev() {
        let Some(block) = read(below - 1)? else {
            continue;
        };
        let named = last_config_index(&block).filter(|named| *named < below);
        let config = named.map(read).transpose()?.flatten();
        if let Some(config) = config.filter(BlockView::is_config_block) {
            return Ok(config);
        }
    }
    read(0)?.ok_or_else(|| "block 0 is missing".to_owned())
}

/// Blocks of a ledger of ours, of which those that were pruned may be missing.
fn of(ledger: &Reader) -> impl Fn(u64) -> Result<Option<BlockView>, String> {
    move |number| {
        let block = ledger.block(number).map_err(|error| error.to_string())?;
        if block.is_none() && number >= ledger.first() {
            return Err(format!("block {number} is missing"));
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use tidings_proto::{
        Message,
        common::{HeaderType, LastConfig, Metadata, OrdererBlockMetadata},
    };

    use super::*;
    use crate::material::{CHANNEL, Material, block, transaction};

    #[test]
    fn the_last_configuration_block_is_found_also_where_a_block_names_another() {
        let material = Material::new();
        let naming = |number, kind, index| {
            let transaction = transaction(kind, CHANNEL, &material.peer1, vec![1]);
            let mut draft = block(number, &[8; 32], [transaction]);
            let value = OrdererBlockMetadata {
                last_config: Some(LastConfig { index }),
                ..OrdererBlockMetadata::default()
            };
            let signed = Metadata {
                value: value.encode_to_vec().into(),
                signatures: Vec::new(),
            };
            draft.0.metadata.as_mut().unwrap().metadata[0] = signed.encode_to_vec().into();
            BlockView::parse(draft.encode()).unwrap()
        };
        let (config, other) = (HeaderType::Config, HeaderType::EndorserTransaction);
        let blocks = [
            naming(0, config, 0),
            naming(1, other, 0),
            naming(2, config, 2),
            naming(3, other, 2),
            // One that changed nothing, and one that is to come.
            naming(4, other, 3),
            naming(5, other, 9),
        ];
        let found = |height, pruned: u64| {
            let read = |number| {
                let is_there = number != pruned;
                let block = usize::try_from(number).ok().and_then(|at| blocks.get(at));
                Ok(block.filter(|_| is_there).cloned())
            };
            last_below(height, &read).unwrap().number()
        };
        for (height, expected) in [(1, 0), (2, 0), (3, 2), (4, 2), (5, 2), (6, 2)] {
            assert_eq!(found(height, 9), Some(expected), "at {height}");
            assert_eq!(found(height, 1), Some(expected), "at {height}, pruned");
        }
    }
}
