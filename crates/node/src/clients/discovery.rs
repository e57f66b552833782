//! The gRPC service `discovery.Discovery`: who is in a channel, and how it is configured.
//!
//! Promises what `discover peers` and `discover config` expect, to whom Fabric would tell it: of a
//! channel its writers, of the network our administrators. Peers that other organizations cannot
//! reach are not listed, and internal endpoints never leave. Which peers can endorse for a
//! chaincode is not known here, and said so.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::id::{ChannelId, OrgId};
use tidings_msp::{
    certificate::to_pem, channel_config::ChannelConfig, crypto::sha256, policy::SignedDatum,
};
use tidings_proto::{
    common::msp_role::MspRoleType,
    discovery::{
        AuthInfo, ConfigResult, Endpoint, Endpoints, Error, Peer, PeerMembershipResult, Peers,
        Query, QueryResult, Request as Questions, Response as Answers, SignedRequest,
        discovery_server, query::Query as Question, query_result::Result as Answer,
    },
    gossip::Envelope,
    msp::{FabricMspConfig, MspConfig},
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::{Shared, roles::check_role};
use crate::{driver, tls::TlsInfo};

/// Largest request: certificates and a few questions.
pub(super) const REQUEST_LEN_MAX: usize = 64 << 10;

/// Questions in one request. Clients ask for the peers and the configuration of a channel or two.
const QUESTIONS_MAX: usize = 32;

const WRITERS: &str = "/Channel/Application/Writers";

/// A peer as it is told of.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    pub(crate) org: OrgId,
    pub(crate) identity: Bytes,
    /// Its alive message, without what is for its organization only.
    pub(crate) alive: Envelope,
    /// What it says of itself on the channel that was asked about.
    pub(crate) state_info: Option<Envelope>,
}

/// `discovery.Discovery`.
pub(super) struct Discovery {
    pub(super) shared: Arc<Shared>,
    /// Where the core is asked. Weak, so that a client does not keep it alive.
    pub(super) core: mpsc::WeakSender<driver::Request>,
}

#[tonic::async_trait]
impl discovery_server::Discovery for Discovery {
    async fn discover(&self, request: Request<SignedRequest>) -> Result<Response<Answers>, Status> {
        let connection = request.extensions().get::<TlsInfo>().cloned();
        let signed = request.into_inner();
        let (client, queries) = questions(&signed.payload, connection.as_ref())?;
        let asker = SignedDatum {
            message: signed.payload.as_ref().into(),
            identity: client.as_ref().into(),
            signature: signed.signature.as_ref().into(),
        };
        let mut results = Vec::new();
        for query in queries {
            let result = self.answer(query, &asker).await;
            results.push(QueryResult {
                result: Some(result),
            });
        }
        Ok(Response::new(Answers { results }))
    }
}

/// Who asks what, if the request belongs to the connection that it came on.
fn questions(payload: &Bytes, connection: Option<&TlsInfo>) -> Result<(Bytes, Vec<Query>), Status> {
    let refuse = |reason: String| {
        tracing::info!(target: "discovery", "a request is refused: {reason}");
        Status::unknown(reason)
    };
    let request = Questions::decode(payload.clone())
        .map_err(|error| refuse(format!("failed parsing request: {error}")))?;
    let Some(AuthInfo {
        client_identity,
        client_tls_cert_hash,
    }) = request.authentication
    else {
        let reason = "access denied, no authentication info in request";
        return Err(refuse(reason.to_owned()));
    };
    if client_identity.is_empty() {
        let reason = "access denied, client identity wasn't supplied";
        return Err(refuse(reason.to_owned()));
    }
    if let Some(connection) = connection
        && connection.own_certificate_sha256.is_some()
    {
        let Some(shown) = &connection.peer_certificate else {
            return Err(refuse("client didn't send a TLS certificate".to_owned()));
        };
        // The program `discover` hashes the text of its certificate.
        let hashes = [sha256(shown), sha256(to_pem(shown).as_bytes())];
        if hashes.iter().all(|hash| client_tls_cert_hash != hash[..]) {
            let reason = "client claimed TLS hash doesn't match computed TLS hash from gRPC stream";
            return Err(refuse(reason.to_owned()));
        }
    }
    if request.queries.len() > QUESTIONS_MAX {
        let len = request.queries.len();
        let reason = format!("{len} queries in one request, at most {QUESTIONS_MAX} are answered");
        return Err(refuse(reason));
    }
    Ok((client_identity, request.queries))
}

fn error(content: impl Into<String>) -> Answer {
    Answer::Error(Error {
        content: content.into(),
    })
}

impl Discovery {
    async fn answer(&self, query: Query, asker: &SignedDatum<'_>) -> Answer {
        if query.channel.is_empty() {
            return self.of_network(query, asker).await;
        }
        let shared = &self.shared;
        let channel = ChannelId::from(query.channel.as_str());
        let config = shared
            .directory
            .channel(&query.channel)
            .and_then(|_served| shared.crypto.config(&channel));
        // Which channels there are is nobody's business who is not in them.
        let Some(config) = config else {
            return error("access denied");
        };
        let writers = config.policies().policy(WRITERS);
        if let Err(reason) = writers.evaluate(std::slice::from_ref(asker)) {
            tracing::info!(target: "discovery", %channel, "a query is refused: {reason}");
            return error("access denied");
        }
        match query.query {
            Some(Question::ConfigQuery(_)) => Answer::ConfigResult(of_config(&config)),
            Some(Question::PeerQuery(query))
                if query
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.chaincodes.is_empty()) =>
            {
                self.peers(Some(channel)).await
            }
            Some(Question::PeerQuery(_) | Question::CcQuery(_)) => {
                error("a tidings node does not know which peers can endorse: ask an endorsing peer")
            }
            Some(Question::LocalPeers(_)) | None => error("unknown or missing request type"),
        }
    }

    /// A question about no channel.
    async fn of_network(&self, query: Query, asker: &SignedDatum<'_>) -> Answer {
        if let Err(reason) = self.check_local(asker) {
            tracing::info!(target: "discovery", "a query is refused: {reason}");
            return error("access denied");
        }
        match query.query {
            Some(Question::LocalPeers(_)) => self.peers(None).await,
            _ => error("unknown or missing request type"),
        }
    }

    /// Whether the asker is an administrator of our organization, or a member if that is enough.
    fn check_local(&self, asker: &SignedDatum<'_>) -> Result<(), String> {
        let services = self.shared.crypto.services();
        let local = services.local();
        let role = if self.shared.settings.members_discover {
            MspRoleType::Member
        } else {
            MspRoleType::Admin
        };
        let client = local
            .deserialize(&asker.identity)
            .map_err(|refused| refused.to_string())?;
        check_role(local, &client, role)?;
        client
            .verify(&asker.message, &asker.signature)
            .map_err(|refused| refused.to_string())
    }

    async fn peers(&self, channel: Option<ChannelId>) -> Answer {
        let (done, found) = oneshot::channel();
        let asked = match self.core.upgrade() {
            Some(core) => core
                .send(driver::Request::Discover(channel, done))
                .await
                .is_ok(),
            None => false,
        };
        let found = if asked { found.await.ok() } else { None };
        let Some(found) = found else {
            return error("the node is stopping");
        };
        let mut peers_by_org: BTreeMap<String, Peers> = BTreeMap::new();
        for peer in found {
            let of_org = peers_by_org
                .entry(peer.org.as_str().to_owned())
                .or_default();
            of_org.peers.push(Peer {
                state_info: peer.state_info,
                membership_info: Some(peer.alive),
                identity: peer.identity,
            });
        }
        Answer::Members(PeerMembershipResult { peers_by_org })
    }
}

/// MSPs of all organizations, and where the orderers are.
fn of_config(config: &ChannelConfig) -> ConfigResult {
    let groups = &config.group().groups;
    let organizations = ["Orderer", "Application"]
        .iter()
        .filter_map(|section| groups.get(*section))
        .flat_map(|section| section.groups.values());
    let msps = organizations.filter_map(|organization| {
        let value = organization.values.get("MSP")?.value.clone();
        let fabric = FabricMspConfig::decode(MspConfig::decode(value).ok()?.config).ok()?;
        Some((fabric.name.clone(), fabric))
    });
    let global = config
        .orderer_endpoints()
        .into_iter()
        .find(|endpoints| endpoints.organization.is_none())
        .map(|endpoints| endpoints.addresses);
    let orderers = config.orderer_organizations().values().map(|organization| {
        let addresses = global.as_ref().unwrap_or(&organization.addresses);
        let endpoint = addresses.iter().filter_map(|address| endpoint(address));
        let endpoint = endpoint.collect();
        (organization.msp_id.clone(), Endpoints { endpoint })
    });
    ConfigResult {
        msps: msps.collect(),
        orderers: orderers.collect(),
    }
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    Some(Endpoint {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().ok()?,
    })
}
