//! What the system chaincodes `cscc` and `qscc` of a Go peer answer, answered from the ledger.
//!
//! Promises the functions that `peer channel join`, `list`, `getinfo` and the queries of SDKs
//! call, under the same access rules. A function that would need a state database or chaincode is
//! named as missing.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidings_ledger::BlockHash;
use tidings_msp::{channel_config::ChannelConfig, identity::Identity};
use tidings_proto::{
    block::BlockView,
    common::{BlockchainInfo, Config, Envelope, msp_role::MspRoleType},
    protos::{ChannelInfo, ChannelQueryResponse, ProcessedTransaction},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    proposal::{CHANNEL_LEN_MAX, Proposal},
    roles::check_role,
    shelf::{block_for_clients, block_of, codes},
};
use crate::{directory::Served, history::last_config};

/// The longest number, hash or transaction id that is looked for.
const KEY_LEN_MAX: usize = 256;

/// A client that may do so wants the node to join a channel.
#[derive(Debug)]
pub struct JoinWish {
    /// The genesis block.
    pub genesis: Bytes,
    /// Takes the outcome: nothing, or why not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Where wishes to join go: to the owner of the node.
pub type JoinWishes = mpsc::Sender<JoinWish>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// As a chaincode that fails.
    Failed(String),
    /// Nothing that this program does.
    Unknown(String),
}

impl From<String> for Unanswered {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// The answer to a proposal whose form and creator are good.
pub(super) async fn answer(
    shared: &Shared,
    proposal: &Proposal,
    creator: &Identity,
) -> Result<Vec<u8>, Unanswered> {
    let function = text(proposal.args.first())?;
    match (proposal.chaincode.as_str(), function.as_str()) {
        ("cscc", "JoinChain") => join(shared, proposal, creator).await,
        ("cscc", "GetChannels") => channels(shared, creator),
        ("cscc", "GetConfigBlock") => config_block(shared, proposal).await,
        ("cscc", "GetChannelConfig") => channel_config(shared, proposal),
        ("qscc", "GetChainInfo") => chain_info(shared, proposal).await,
        ("qscc", "GetBlockByNumber" | "GetBlockByHash" | "GetBlockByTxID") => {
            block(shared, proposal, &function).await
        }
        ("qscc", "GetTransactionByID") => transaction(shared, proposal).await,
        (chaincode, function) => Err(Unanswered::Unknown(format!("{chaincode}/{function}"))),
    }
}

/// An argument that is a name: nothing that is longer is one.
fn text(arg: Option<&Bytes>) -> Result<String, String> {
    let arg = arg.ok_or("Incorrect number of arguments")?;
    if arg.len() > CHANNEL_LEN_MAX {
        return Err("an argument is longer than any name".to_owned());
    }
    String::from_utf8(arg.to_vec()).map_err(|_garbage| "an argument is not text".to_owned())
}

async fn join(
    shared: &Shared,
    proposal: &Proposal,
    creator: &Identity,
) -> Result<Vec<u8>, Unanswered> {
    let genesis = proposal.args.get(1).filter(|block| !block.is_empty());
    let genesis = genesis
        .ok_or_else(|| "Cannot join the channel <nil> configuration block provided".to_owned())?;
    check_role(
        shared.crypto.services().local(),
        creator,
        MspRoleType::Admin,
    )
    .map_err(|reason| format!("access denied for [JoinChain]: [{reason}]"))?;
    let Some(wishes) = &shared.settings.joins else {
        return Err(Unanswered::Unknown("cscc/JoinChain".to_owned()));
    };
    let (done, outcome) = oneshot::channel();
    let wish = JoinWish {
        genesis: genesis.clone(),
        done,
    };
    let stopping = || "the node is stopping".to_owned();
    wishes.send(wish).await.map_err(|_gone| stopping())?;
    outcome.await.map_err(|_gone| stopping())??;
    Ok(Vec::new())
}

fn channels(shared: &Shared, creator: &Identity) -> Result<Vec<u8>, Unanswered> {
    check_role(
        shared.crypto.services().local(),
        creator,
        MspRoleType::Member,
    )
    .map_err(|reason| format!("access denied for [GetChannels]: {reason}"))?;
    let listed = shared.directory.channels();
    let channels = listed.iter().map(|served| ChannelInfo {
        channel_id: served.channel.as_str().to_owned(),
    });
    let response = ChannelQueryResponse {
        channels: channels.collect(),
    };
    Ok(response.encode_to_vec())
}

/// The channel that the second argument names, if the creator may do this there.
fn may(
    shared: &Shared,
    proposal: &Proposal,
) -> Result<(Arc<Served>, Arc<ChannelConfig>), Unanswered> {
    let function = text(proposal.args.first())?;
    let channel = text(proposal.args.get(1))?;
    let found = shared.channel(&channel);
    let (served, config) = found.ok_or_else(|| format!("Invalid chain ID, {channel}"))?;
    config
        .policy_for(&format!("{}/{function}", proposal.chaincode))
        .evaluate(&[proposal.signed()])
        .map_err(|reason| format!("access denied for [{function}][{channel}]: [{reason}]"))?;
    Ok((served, config))
}

async fn config_block(shared: &Shared, proposal: &Proposal) -> Result<Vec<u8>, Unanswered> {
    let (served, _) = may(shared, proposal)?;
    let read = move || {
        let block = last_config(&served.blocks)?;
        encoded(&served, &block)
    };
    Ok(shared.shelf.reads.read(read).await?)
}

fn channel_config(shared: &Shared, proposal: &Proposal) -> Result<Vec<u8>, Unanswered> {
    let (_, config) = may(shared, proposal)?;
    let config = Config {
        sequence: config.sequence(),
        channel_group: Some(config.group().clone()),
    };
    Ok(config.encode_to_vec())
}

async fn chain_info(shared: &Shared, proposal: &Proposal) -> Result<Vec<u8>, Unanswered> {
    let (served, _) = may(shared, proposal)?;
    let read = move || {
        let tip = served.blocks.tip();
        let last = block_of(&served, tip.height().saturating_sub(1))?;
        let hash = |hash: BlockHash| Bytes::copy_from_slice(hash.as_bytes());
        let previous = last.header().map(|header| header.previous_hash.clone());
        let info = BlockchainInfo {
            height: tip.height(),
            current_block_hash: tip.last_hash().map(hash).unwrap_or_default(),
            previous_block_hash: previous.unwrap_or_default(),
        };
        Ok(info.encode_to_vec())
    };
    Ok(shared.shelf.reads.read(read).await?)
}

async fn block(
    shared: &Shared,
    proposal: &Proposal,
    function: &str,
) -> Result<Vec<u8>, Unanswered> {
    let (served, _) = may(shared, proposal)?;
    let which = third(proposal, function)?;
    let by_number = function == "GetBlockByNumber";
    let by_hash = function == "GetBlockByHash";
    let read = move || {
        let found = if by_number {
            return encoded(&served, &block_of(&served, number(&served, &which)?)?);
        } else if by_hash {
            let hash = <[u8; 32]>::try_from(&which[..]).map_err(|_len| "that is no block hash")?;
            served.blocks.block_by_hash(&BlockHash::new(hash))
        } else {
            let found = served.blocks.transaction(&String::from_utf8_lossy(&which));
            found.map(|found| found.map(|found| found.block))
        };
        let found = found.map_err(|error| error.to_string())?;
        let name = String::from_utf8_lossy(&which);
        let block = found.ok_or_else(|| {
            let pruned = pruned(&served);
            if by_hash {
                format!("Failed to get block hash: no such block hash in index{pruned}")
            } else {
                format!(
                    "Failed to get block for txID {name}: no such transaction ID [{name}] in \
                     index{pruned}"
                )
            }
        })?;
        encoded(&served, &block)
    };
    Ok(shared.shelf.reads.read(read).await?)
}

async fn transaction(shared: &Shared, proposal: &Proposal) -> Result<Vec<u8>, Unanswered> {
    let (served, _) = may(shared, proposal)?;
    let which = third(proposal, "GetTransactionByID")?;
    let read = move || {
        let id = String::from_utf8_lossy(&which);
        let found = served.blocks.transaction(&id);
        let found = found.map_err(|error| error.to_string())?.ok_or_else(|| {
            let pruned = pruned(&served);
            format!("Failed to get transaction with id {id}, error no such transaction ID [{id}] in index{pruned}")
        })?;
        let envelope = Envelope::decode(found.envelope).map_err(|error| error.to_string())?;
        let code = codes(&served, &found.block)?.get(found.position).copied();
        let processed = ProcessedTransaction {
            transaction_envelope: Some(envelope),
            validation_code: code.unwrap_or_default().into(),
        };
        Ok(processed.encode_to_vec())
    };
    Ok(shared.shelf.reads.read(read).await?)
}

fn third(proposal: &Proposal, function: &str) -> Result<Bytes, String> {
    let third = proposal.args.get(2).cloned();
    let third = third.ok_or_else(|| format!("missing 3rd argument for {function}"))?;
    if third.len() > KEY_LEN_MAX {
        return Err(format!("the 3rd argument of {function} is longer than any"));
    }
    Ok(third)
}

/// The largest number stands for the last block, as in Fabric.
fn number(served: &Served, text: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(text);
    let number: u64 = text
        .parse()
        .map_err(|error| format!("Failed to parse block number with error {error}: {text:?}"))?;
    if number == u64::MAX {
        return Ok(served.blocks.height().saturating_sub(1));
    }
    Ok(number)
}

/// What is to be added where something was not found that may have been there.
fn pruned(served: &Served) -> String {
    match served.blocks.first() {
        0 => String::new(),
        first => format!("; blocks below {first} were pruned, and what was in them is not found"),
    }
}

fn encoded(served: &Served, block: &BlockView) -> Result<Vec<u8>, String> {
    Ok(block_for_clients(served, block)?.encode_to_vec())
}
