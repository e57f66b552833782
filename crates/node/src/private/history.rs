//! The configuration that held below a block of the past.

use tidings_msp::{block::last_config_index, channel_config::ChannelConfig};
use tidings_proto::block::BlockView;

use crate::crypto::next_config;

/// The configuration in force below this block, which is not the first: the first one and
/// everything that became of it, by the rules under which its blocks were committed. `read` has
/// nothing for a block that was pruned, which is no configuration block then.
pub(crate) fn config_below(
    number: u64,
    read: impl Fn(u64) -> Result<Option<BlockView>, String>,
) -> Result<ChannelConfig, String> {
    let mut configs = Vec::new();
    let mut below = number;
    while below > 1 {
        let Some(block) = read(below - 1)? else {
            below -= 1;
            continue;
        };
        // What a block says of its configuration is a short cut. Where it is wrong, which only
        // those who sign blocks can make it, the way down is longer.
        let named = last_config_index(&block).filter(|number| *number < below);
        let named = named
            .map(&read)
            .transpose()?
            .flatten()
            .filter(BlockView::is_config_block);
        let named = named.and_then(|config| config.number());
        below = named.unwrap_or(below - 1);
        configs.extend(named.filter(|number| *number > 0));
    }
    let held = |number| read(number)?.ok_or_else(|| format!("block {number} is missing"));
    let genesis = held(0)?;
    let first = ChannelConfig::from_config_block(genesis.bytes());
    let mut config = first.map_err(|error| error.to_string())?;
    for number in configs.into_iter().rev() {
        let next = next_config(&config, held(number)?.bytes());
        config = next
            .map_err(|reason| format!("block {number}: {reason}"))?
            .unwrap_or(config);
    }
    Ok(config)
}
