//! Transactions for the demo: as large as wanted, signed by a client, endorsed by peers.
//!
//! Promises: every transaction is one that Fabric would order, with an id of its own. Writes
//! nothing into any state; who submits it and when is not decided here.

use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use bytes::Bytes;
use tidings_msp::crypto::{sha256, sha256_parts};
use tidings_msp::identity::SigningIdentity;
use tidings_proto::Message;
use tidings_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use tidings_proto::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, ChaincodeProposalPayload, Endorsement, ProposalResponsePayload, Response,
    Transaction, TransactionAction,
};

use super::material::Material;
use crate::signer;

const CHAINCODE: &str = "demo";

/// Transactions in a block, if the block is large enough for so many.
const TRANSACTIONS_MAX: usize = 10;

/// What a transaction costs before it carries anything: certificates and signatures.
const TRANSACTION_BYTES: usize = 6000;

/// Endorsements of a transaction; a majority of many organizations is a kilobyte each.
const ENDORSERS_MAX: usize = 2;

/// Makes transactions.
pub(crate) struct Load {
    channel: String,
    client: SigningIdentity,
    endorsers: Vec<SigningIdentity>,
    data_len: usize,
    per_block: usize,
}

impl Load {
    /// Transactions of which [`Self::per_block`] make a block of about so many bytes.
    pub(crate) fn new(
        channel: &str,
        client: SigningIdentity,
        endorsers: Vec<SigningIdentity>,
        block_bytes: usize,
    ) -> Result<Self> {
        let per_block = per_block(block_bytes);
        let mut load = Self {
            channel: channel.to_owned(),
            client,
            endorsers,
            data_len: 0,
            per_block,
        };
        let empty = load.transaction()?.len();
        load.data_len = (block_bytes / per_block).saturating_sub(empty);
        Ok(load)
    }

    /// The load of a network: submitted by the first client of the first organization, endorsed
    /// by the first peer of each.
    pub(crate) fn of(material: &Material, block_bytes: usize) -> Result<Self> {
        let org = material
            .orgs
            .first()
            .context("no organization has a client")?;
        let client = signer::read(&org.client, &org.msp_id)?;
        let endorsers = material
            .orgs
            .iter()
            .filter_map(|org| org.peers.first())
            .take(ENDORSERS_MAX)
            .map(|peer| signer::read(&peer.msp, &peer.msp_id))
            .collect::<Result<_>>()?;
        Self::new(material.config.channel_id(), client, endorsers, block_bytes)
    }

    /// The same bytes a block in a single transaction.
    #[cfg(test)]
    pub(crate) fn alone(mut self) -> Self {
        self.data_len *= self.per_block;
        self.per_block = 1;
        self
    }

    /// The same transactions, of which so many make a block.
    pub(crate) fn with_per_block(mut self, transactions: usize) -> Self {
        self.per_block = transactions;
        self
    }

    /// Transactions that make a block.
    pub(crate) fn per_block(&self) -> usize {
        self.per_block
    }

    /// A new transaction.
    pub(crate) fn transaction(&self) -> Result<Bytes> {
        let mut nonce = [0; 24];
        let mut data = vec![0; self.data_len];
        rand::fill(&mut nonce).context("the system has no random bytes")?;
        rand::fill(&mut data).context("the system has no random bytes")?;
        let creator = self.client.serialized();
        let signature_header = encoded(&SignatureHeader {
            creator: creator.clone(),
            nonce: Bytes::copy_from_slice(&nonce),
        });
        let chaincode = ChaincodeId {
            name: CHAINCODE.into(),
            ..ChaincodeId::default()
        };
        let channel_header = encoded(&ChannelHeader {
            r#type: HeaderType::EndorserTransaction.into(),
            timestamp: Some(SystemTime::now().into()),
            channel_id: self.channel.clone(),
            tx_id: hex::encode(sha256_parts(&[&nonce, creator])),
            extension: encoded(&ChaincodeHeaderExtension {
                chaincode_id: Some(chaincode.clone()),
            }),
            ..ChannelHeader::default()
        });
        let proposal = encoded(&ChaincodeProposalPayload {
            input: data.into(),
            ..ChaincodeProposalPayload::default()
        });
        let action = TransactionAction {
            header: signature_header.clone(),
            payload: encoded(&ChaincodeActionPayload {
                action: Some(self.endorsed(&proposal, chaincode)?),
                chaincode_proposal_payload: proposal,
            }),
        };
        let payload = encoded(&Payload {
            header: Some(Header {
                channel_header,
                signature_header,
            }),
            data: encoded(&Transaction {
                actions: vec![action],
            }),
        });
        let signature = self
            .client
            .sign(&payload)
            .context("cannot sign a transaction")?;
        Ok(encoded(&Envelope {
            payload,
            signature: signature.into(),
        }))
    }

    fn endorsed(&self, proposal: &[u8], chaincode: ChaincodeId) -> Result<ChaincodeEndorsedAction> {
        let response = encoded(&ProposalResponsePayload {
            proposal_hash: Bytes::copy_from_slice(&sha256(proposal)),
            extension: encoded(&ChaincodeAction {
                response: Some(Response {
                    status: 200,
                    ..Response::default()
                }),
                chaincode_id: Some(chaincode),
                ..ChaincodeAction::default()
            }),
        });
        let mut endorsements = Vec::new();
        for endorser in &self.endorsers {
            let message = [&response, endorser.serialized().as_ref()].concat();
            let signature = endorser
                .sign(&message)
                .context("cannot endorse a transaction")?;
            endorsements.push(Endorsement {
                endorser: endorser.serialized().clone(),
                signature: signature.into(),
            });
        }
        Ok(ChaincodeEndorsedAction {
            proposal_response_payload: response,
            endorsements,
        })
    }
}

/// Transactions that a block of so many bytes is divided into.
pub(crate) fn per_block(block_bytes: usize) -> usize {
    (block_bytes / TRANSACTION_BYTES).clamp(1, TRANSACTIONS_MAX)
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use tidings_msp::policy::SignedDatum;

    use super::*;
    use crate::demo::sample;

    #[test]
    fn blocks_get_about_the_size_that_is_asked_for() {
        let (_dir, material) = sample::network(2);
        for wanted in [20_000, 100_000, 1_000_000] {
            let load = Load::of(&material, wanted).unwrap();
            let got = load.transaction().unwrap().len() * load.per_block();
            assert!(got.abs_diff(wanted) < wanted / 20, "{got} for {wanted}");
        }
        assert_eq!(
            [0, 11_999, 12_000, 1_000_000].map(per_block),
            [1, 1, 2, TRANSACTIONS_MAX]
        );
    }

    #[test]
    fn transactions_are_canonical_and_signed_by_a_writer() {
        let (_dir, material) = sample::network(2);
        let transaction = Load::of(&material, 20_000).unwrap().transaction().unwrap();
        let envelope = tidings_proto::canonical::CanonicalEnvelope::parse(&transaction).unwrap();
        let payload = Payload::decode(envelope.payload()).unwrap();
        let signer = SignatureHeader::decode(payload.header.unwrap().signature_header).unwrap();
        let datum = SignedDatum {
            message: envelope.payload().into(),
            identity: signer.creator.as_ref().into(),
            signature: envelope.signature().into(),
        };
        material
            .config
            .policies()
            .policy("/Channel/Writers")
            .evaluate(&[datum])
            .unwrap();
    }
}
