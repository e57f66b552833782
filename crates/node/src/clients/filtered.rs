//! A block as the events that Fabric's filtered blocks hold.
//!
//! Promises Go's reading of what a transaction says: what is skipped, what makes the whole block
//! unreadable, and no payloads of events. Codes are those it is given; it validates nothing.

use prost::{DecodeError, Message};
use tidings_proto::{
    block::BlockView,
    common::{ChannelHeader, Envelope, HeaderType, Payload},
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, FilteredBlock,
        FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
        ProposalResponsePayload, Transaction, filtered_transaction::Data,
    },
};

/// The events of a block, with the code of each transaction.
pub(super) fn filtered(block: &BlockView, codes: &[u8]) -> Result<FilteredBlock, DecodeError> {
    let mut filtered = FilteredBlock {
        number: block.number().unwrap_or_default(),
        ..FilteredBlock::default()
    };
    for (position, envelope) in block.transactions().enumerate() {
        let Ok(envelope) = Envelope::decode(envelope) else {
            continue;
        };
        let payload = Payload::decode(envelope.payload)?;
        let Some(header) = payload.header else {
            continue;
        };
        let header = ChannelHeader::decode(header.channel_header)?;
        filtered.channel_id = header.channel_id;
        let is_endorsed = header.r#type == i32::from(HeaderType::EndorserTransaction);
        let data = is_endorsed.then(|| actions(&payload.data)).transpose()?;
        filtered.filtered_transactions.push(FilteredTransaction {
            txid: header.tx_id,
            r#type: header.r#type,
            tx_validation_code: codes.get(position).copied().unwrap_or_default().into(),
            data: data.map(Data::TransactionActions),
        });
    }
    Ok(filtered)
}

fn actions(transaction: &[u8]) -> Result<FilteredTransactionActions, DecodeError> {
    let mut chaincode_actions = Vec::new();
    for action in Transaction::decode(transaction)?.actions {
        let payload = ChaincodeActionPayload::decode(action.payload)?;
        let Some(endorsed) = payload.action else {
            continue;
        };
        let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload)?;
        let action = ChaincodeAction::decode(response.extension)?;
        let event = ChaincodeEvent::decode(action.events)?;
        if !event.chaincode_id.is_empty() {
            chaincode_actions.push(FilteredChaincodeAction {
                chaincode_event: Some(ChaincodeEvent {
                    payload: bytes::Bytes::new(),
                    ..event
                }),
            });
        }
    }
    Ok(FilteredTransactionActions { chaincode_actions })
}
