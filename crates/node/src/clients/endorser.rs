//! The gRPC service `protos.Endorser`, of which only the queries of system chaincodes are here.
//!
//! Promises Fabric's shape of answers: a proposal that is wrong in itself or whose creator is
//! nobody ends with a gRPC error; a query that fails has status 500 and a message; one that
//! succeeds in a channel is signed by this node, as SDKs expect of queries.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    protos::{
        ChaincodeAction, ChaincodeId, Endorsement, ProposalResponse, ProposalResponsePayload,
        Response as Outcome, SignedProposal, endorser_server,
    },
    rwset::TxReadWriteSet,
};
use tonic::{Request, Response, Status};

use super::{
    Shared,
    proposal::{Proposal, ProposalRefused},
    queries::{self, Unanswered},
};
use crate::logging::{Seldom, foreign};

/// Largest proposal. The genesis block of a channel is what is large; one with a hundred
/// organizations has about a megabyte.
pub(super) const PROPOSAL_LEN_MAX: usize = 4 << 20;

static FAILED: Seldom = Seldom::new();
static REFUSED: Seldom = Seldom::new();

/// `protos.Endorser`.
pub(super) struct Endorser(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl endorser_server::Endorser for Endorser {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, Status> {
        self.0.metrics.proposals_received.inc();
        let response = self.answer(request.into_inner()).await?;
        let status = response.response.as_ref().map(|outcome| outcome.status);
        if status == Some(200) {
            self.0.metrics.proposals_successful.inc();
        }
        Ok(Response::new(response))
    }
}

impl Endorser {
    async fn answer(&self, signed: SignedProposal) -> Result<ProposalResponse, Status> {
        let proposal = Proposal::parse(signed).map_err(refused)?;
        if !matches!(proposal.chaincode.as_str(), "cscc" | "qscc") {
            return Err(not_here(&proposal.chaincode));
        }
        let shared = &self.0;
        let config = if proposal.channel.is_empty() {
            None
        } else {
            let Some((_, config)) = shared.channel(&proposal.channel) else {
                return Ok(failed(format!("channel '{}' not found", proposal.channel)));
            };
            Some(config)
        };
        let creator = proposal
            .check(
                &shared.crypto,
                config.as_deref(),
                (SystemTime::now(), shared.settings.time_window),
            )
            .map_err(refused)?;
        match queries::answer(shared, &proposal, &creator).await {
            Ok(payload) if config.is_none() => Ok(ProposalResponse {
                response: Some(succeeded(payload.into())),
                ..ProposalResponse::default()
            }),
            Ok(payload) => Ok(self.endorse(&proposal, payload.into())),
            Err(Unanswered::Failed(reason)) => {
                if let Some(left_out) = FAILED.line(Instant::now()) {
                    tracing::info!(
                        target: "endorser", chaincode = foreign(&proposal.chaincode),
                        org = %creator.msp_id(), left_out,
                        "a query is not answered: {}", foreign(&reason)
                    );
                }
                Ok(failed(reason))
            }
            Err(Unanswered::Unknown(what)) => Err(not_here(&what)),
        }
    }

    /// Signed as a peer signs what it endorses: that a query in a channel had this answer. It has
    /// no read or write set, so that a transaction of it would change nothing.
    fn endorse(&self, proposal: &Proposal, payload: Bytes) -> ProposalResponse {
        let response = succeeded(payload);
        let action = ChaincodeAction {
            results: TxReadWriteSet::default().encode_to_vec().into(),
            response: Some(response.clone()),
            chaincode_id: Some(ChaincodeId {
                name: proposal.chaincode.clone(),
                version: "syscc".to_owned(),
                ..ChaincodeId::default()
            }),
            ..ChaincodeAction::default()
        };
        let payload = ProposalResponsePayload {
            proposal_hash: Bytes::copy_from_slice(&proposal.hash()),
            extension: action.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let services = self.0.crypto.services();
        let endorser = services.signer().serialized().clone();
        let signed = [&payload[..], &endorser].concat();
        let endorsement = services.sign(&signed).map(|signature| Endorsement {
            endorser,
            signature: signature.into(),
        });
        ProposalResponse {
            version: 1,
            response: Some(response),
            payload,
            endorsement: endorsement
                .inspect_err(|error| tracing::error!(target: "msp", "cannot sign: {error}"))
                .ok(),
            ..ProposalResponse::default()
        }
    }
}

fn succeeded(payload: Bytes) -> Outcome {
    Outcome {
        status: 200,
        payload,
        ..Outcome::default()
    }
}

fn failed(message: String) -> ProposalResponse {
    let outcome = Outcome {
        status: 500,
        message,
        ..Outcome::default()
    };
    ProposalResponse {
        response: Some(outcome),
        ..ProposalResponse::default()
    }
}

/// As a Go peer answers, which gives errors of its own no code.
#[expect(clippy::needless_pass_by_value, reason = "it ends here")]
fn refused(refused: ProposalRefused) -> Status {
    if let Some(left_out) = REFUSED.line(Instant::now()) {
        let reason = match &refused {
            ProposalRefused::Denied { reason, .. } => reason.as_str(),
            _ => "",
        };
        tracing::info!(
            target: "endorser", reason = foreign(reason), left_out,
            "a proposal is refused: {}", foreign(&refused)
        );
    }
    Status::unknown(refused.to_string())
}

fn not_here(what: &str) -> Status {
    Status::unimplemented(format!(
        "a tidings node does not do {what}: it runs no chaincode and endorses no transactions, and answers cscc \
         (JoinChain, GetChannels, GetConfigBlock, GetChannelConfig) and qscc only; ask an endorsing peer"
    ))
}
