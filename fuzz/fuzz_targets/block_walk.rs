//! A serialized block: the walker reads what the codec reads.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidings_proto::{
    Message,
    block::{BlockView, TransactionHead},
    common::Block,
};

mod nested;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    nested::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let _ = TransactionHead::parse(bytes);
    let view = BlockView::parse(bytes.to_vec().into());
    if let Ok(block) = Block::decode(bytes) {
        let view = view.as_ref().expect("the codec reads it");
        assert_eq!(view.header(), block.header.as_ref());
        let transactions = block.data.unwrap_or_default().data;
        assert_eq!(view.transactions().collect::<Vec<_>>(), transactions);
        assert_eq!(view.transactions_len(), transactions.len());
        let metadata = block.metadata.unwrap_or_default().metadata;
        assert_eq!(view.metadata().collect::<Vec<_>>(), metadata);
        assert_eq!(view.metadata_len(), metadata.len());
    }
    if let Ok(view) = view {
        let _ = (
            view.channel_id(),
            view.is_config_block(),
            view.header_asn1(),
            view.claimed_codes(),
        );
    }
});
