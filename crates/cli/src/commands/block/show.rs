//! `tidings block show`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tidings_msp::block::{data_hash, last_config_index};
use tidings_msp::channel_config::{ChannelConfig, ConsensusType};
use tidings_msp::crypto::sha256;
use tidings_proto::Message;
use tidings_proto::block::{BlockView, code_name};
use tidings_proto::common::{BlockMetadataIndex, Metadata, SignatureHeader};

use crate::commands::describe;
use crate::commands::outline::{Outline, clean, plural, short_hex};

/// Bytes as a block, or one line on why they are none.
pub(super) fn parse(path: &Path, bytes: &Bytes) -> Result<BlockView> {
    ensure!(
        !bytes.is_empty(),
        "{} is empty: give a file with a block",
        path.display()
    );
    let block = BlockView::parse(bytes.clone())
        .with_context(|| format!("{} is not a block", path.display()))?;
    ensure!(
        block.header().is_some() && block.transactions_len() > 0,
        "{} is not a block: it has no header or no transactions",
        path.display()
    );
    Ok(block)
}

pub(super) fn show(path: &Path, bytes: &Bytes) -> Result<String> {
    let block = parse(path, bytes)?;
    let mut outline = Outline::default();
    let o = &mut outline;
    let number = block.number().unwrap_or_default();
    let channel = block
        .channel_id()
        .map_or_else(|error| format!("({error})"), |name| clean(&name));
    o.line(format_args!(
        "Block {number} of channel {channel}, {}",
        plural(bytes.len(), "byte")
    ));
    o.below(|o| {
        hashes(o, &block);
        signatures(o, &block);
        transactions(o, &block);
        if block.is_config_block() {
            configuration(o, bytes);
        }
    });
    Ok(outline.finish())
}

fn hashes(o: &mut Outline, block: &BlockView) {
    let Some(header) = block.header() else { return };
    o.field(
        "header hash",
        short_hex(&sha256(&block.header_asn1().unwrap_or_default())),
    );
    o.field(
        "previous hash",
        match header.previous_hash.len() {
            0 => "none".into(),
            _ => short_hex(&header.previous_hash),
        },
    );
    let matches = data_hash(block) == *header.data_hash;
    let note = if matches {
        ""
    } else {
        ", which is NOT the hash of the transactions"
    };
    o.field(
        "data hash",
        format_args!("{}{note}", short_hex(&header.data_hash)),
    );
}

fn signatures(o: &mut Outline, block: &BlockView) {
    match last_config_index(block) {
        Some(number) => o.field("last config", format_args!("block {number}")),
        None => o.field("last config", "not said"),
    }
    match metadata(block, BlockMetadataIndex::Signatures).map(Metadata::decode) {
        None => o.field("signed by", "nobody: there is no metadata"),
        Some(Err(error)) => o.field("signed by", format_args!("unreadable: {error}")),
        Some(Ok(of)) if of.signatures.is_empty() => o.field("signed by", "nobody"),
        Some(Ok(of)) => o.list(&of.signatures, |o, signature| {
            let by = match SignatureHeader::decode(signature.signature_header.clone()) {
                Ok(_) if signature.signature_header.is_empty() => "a consenter by number".into(),
                Ok(header) => describe::identity(&header.creator),
                Err(error) => format!("unreadable: {error}"),
            };
            o.field("signed by", by);
        }),
    }
    if let Some(hash) = metadata(block, BlockMetadataIndex::CommitHash)
        .and_then(|entry| Metadata::decode(entry).ok())
        .filter(|entry| !entry.value.is_empty())
    {
        o.field("commit hash", short_hex(&hash.value));
    }
}

fn transactions(o: &mut Outline, block: &BlockView) {
    let codes = metadata(block, BlockMetadataIndex::TransactionsFilter).unwrap_or_default();
    let all: Vec<(usize, Bytes)> = block.transactions().enumerate().collect();
    o.field("transactions", all.len());
    o.below(|o| {
        o.list(&all, |o, (index, envelope)| {
            let facts = describe::transaction(envelope);
            let code = codes
                .get(*index)
                .map_or_else(|| "not validated".into(), |code| code_name(*code));
            o.line(format_args!(
                "{index:>3}  {}  {code}  {}",
                facts.kind,
                plural(envelope.len(), "byte")
            ));
            o.below(|o| {
                o.below(|o| {
                    if !facts.id.is_empty() {
                        o.field("id", &facts.id);
                    }
                    o.field("creator", &facts.creator);
                    if !facts.chaincode.is_empty() {
                        let endorsed = plural(facts.endorsements, "endorsement");
                        o.field("chaincode", format_args!("{}, {endorsed}", facts.chaincode));
                    }
                });
            });
        });
    });
}

fn configuration(o: &mut Outline, bytes: &Bytes) {
    let config = match ChannelConfig::from_config_block(bytes) {
        Ok(config) => config,
        Err(error) => return o.field("configuration", format_args!("invalid: {error}")),
    };
    o.field(
        "configuration",
        format_args!("sequence {}", config.sequence()),
    );
    o.below(|o| {
        for (key, org) in config.application_organizations() {
            let anchors: Vec<String> = org
                .anchors
                .iter()
                .map(|anchor| format!("{}:{}", clean(&anchor.host), anchor.port))
                .collect();
            let anchors = if anchors.is_empty() {
                "none".into()
            } else {
                anchors.join(", ")
            };
            o.field(
                &clean(key),
                format_args!("{}, anchor peers: {anchors}", clean(&org.msp_id)),
            );
        }
        for (key, org) in config.orderer_organizations() {
            let addresses: Vec<String> = org.addresses.iter().map(|a| clean(a)).collect();
            o.field(
                &clean(key),
                format_args!("{}, orderers: {}", clean(&org.msp_id), addresses.join(", ")),
            );
        }
        o.field(
            "consensus",
            match config.consensus() {
                ConsensusType::EtcdRaft => "etcdraft".into(),
                ConsensusType::Bft => "BFT".into(),
                ConsensusType::Other(name) => clean(name),
            },
        );
        let batch = config.batch();
        o.field(
            "batch",
            format_args!(
                "{} transactions, {} bytes, {:?}",
                batch.message_count_max, batch.preferred_bytes_max, batch.timeout
            ),
        );
        for (section, group) in [("channel", Some(config.group()))]
            .into_iter()
            .chain(["Application", "Orderer"].map(|name| (name, config.group().groups.get(name))))
        {
            if let Some(names) = group.and_then(capabilities) {
                o.field(
                    "capabilities",
                    format_args!("{}: {names}", section.to_lowercase()),
                );
            }
        }
    });
}

fn capabilities(group: &tidings_proto::common::ConfigGroup) -> Option<String> {
    let value = group.values.get("Capabilities")?;
    let capabilities = tidings_proto::common::Capabilities::decode(value.value.clone()).ok()?;
    let names: Vec<String> = capabilities
        .capabilities
        .keys()
        .map(|name| clean(name))
        .collect();
    Some(names.join(", "))
}

fn metadata(block: &BlockView, index: BlockMetadataIndex) -> Option<Bytes> {
    block.metadata().nth(usize::try_from(index as i32).ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_block_is_refused_in_one_line() {
        for (bytes, why) in [
            (&b""[..], "is empty"),
            (b"not a block at all", "is not a block"),
            (b"\x0a\x02\x08\x01", "no header or no transactions"),
        ] {
            let error = show(Path::new("some.file"), &Bytes::from_static(bytes)).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains("some.file") && error.contains(why),
                "{error}"
            );
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn recorded_blocks_are_shown() {
        let folder = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures"
        ));
        if !folder.exists() {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED: ../shared is not here: recorded blocks shown to a person\n"),
            );
            return;
        }
        let show = |name: &str| {
            let path = PathBuf::from(folder).join(name);
            show(&path, &fs::read(&path).unwrap().into()).unwrap()
        };
        let text = show("blocks/block_04.pb");
        for line in [
            "Block 4 of channel mychannel, ",
            "header hash     cb1f41d0c5981a710674be9f49ff57e61b92b63939be954ade422ad265628e40\n",
            "last config     block 2\n",
            "signed by       OrdererMSP orderer.orderer.test\n",
            "ENDORSER_TRANSACTION  VALID  4269 bytes\n",
            "creator         Org1MSP User1@org1.test\n",
            "chaincode       _lifecycle, 2 endorsements\n",
            "commit hash     134d955e776ea7c0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        let text = show("genesis.block");
        for line in [
            "signed by       nobody\n",
            "configuration   sequence 0\n",
            "Org1            Org1MSP, anchor peers: none\n",
            "OrdererMSP, orderers: 127.0.0.1:22000\n",
            "capabilities    channel: V3_0\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(show("blocks/bad_data_flipped_bit.pb").contains("NOT the hash"));
        assert!(show("blocks/bad_no_metadata.pb").contains("there is no metadata"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = show(Path::new("f"), &bytes.into());
        }
    }
}
