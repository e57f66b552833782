//! The gRPC service `discovery.Discovery`: who is in a channel, and how it is configured.
//!
//! Promises what `discover peers` and `discover config` expect, to whom Fabric would tell it: of a
//! channel its writers, of the network our administrators. Peers that other organizations cannot
//! reach are not listed, and internal endpoints never leave. Which peers can endorse for a
//! chaincode is not known here, and said so.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

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
use tokio::sync::{Mutex, mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::{Shared, roles::check_role};
use crate::{
    driver,
    logging::{Seldom, foreign},
    tls::TlsInfo,
};

/// Largest request: certificates and a few questions.
pub(super) const REQUEST_LEN_MAX: usize = 64 << 10;

/// Questions in one request. Clients ask for the peers and the configuration of a channel or two.
const QUESTIONS_MAX: usize = 32;

/// The type of an MSP by certificates.
const FABRIC: i32 = 0;

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

/// How long an answer of the core serves all who ask: it has better to do than to answer clients.
const FRESH: Duration = Duration::from_secs(1);

static REFUSED: Seldom = Seldom::new();

/// Who was there, and when that was; of the network under none. As many as channels that were
/// joined.
type Found = BTreeMap<Option<ChannelId>, (Instant, Arc<[Discovered]>)>;

/// `discovery.Discovery`.
pub(super) struct Discovery {
    shared: Arc<Shared>,
    /// Where the core is asked. Weak, so that a client does not keep it alive.
    core: mpsc::WeakSender<driver::Request>,
    /// Held while the core is asked, so that nobody else asks it the same.
    found: Mutex<Found>,
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
        let mut admitted = BTreeMap::new();
        for query in queries {
            let name = query.channel.clone();
            // A signature is looked at once for each channel.
            let access = admitted
                .entry(name)
                .or_insert_with_key(|channel| self.access(channel, &asker))
                .clone();
            let result = match access {
                Some(access) => self.answer(query, access).await,
                // Which channels there are is nobody's business who is not in them.
                None => error("access denied"),
            };
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
        tell(&reason);
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

fn tell(reason: &str) {
    if let Some(left_out) = REFUSED.line(Instant::now()) {
        tracing::info!(target: "discovery", left_out, "a request is refused: {}", foreign(reason));
    }
}

fn error(content: impl Into<String>) -> Answer {
    Answer::Error(Error {
        content: content.into(),
    })
}

/// What was asked about, by somebody who may.
#[derive(Clone)]
enum Access {
    Channel(ChannelId, Arc<ChannelConfig>),
    Network,
}

impl Discovery {
    pub(super) fn new(shared: Arc<Shared>, core: mpsc::WeakSender<driver::Request>) -> Self {
        Self {
            shared,
            core,
            found: Mutex::default(),
        }
    }

    /// None for who may not ask about this channel, or about the network.
    fn access(&self, channel: &str, asker: &SignedDatum<'_>) -> Option<Access> {
        let judged = if channel.is_empty() {
            self.check_local(asker).map(|()| Access::Network)
        } else {
            let (served, config) = self.shared.channel(channel)?;
            let writers = config.policies().policy(WRITERS);
            writers
                .evaluate(std::slice::from_ref(asker))
                .map(|()| Access::Channel(served.channel.clone(), config))
                .map_err(|reason| reason.to_string())
        };
        judged.inspect_err(|reason| tell(reason)).ok()
    }

    async fn answer(&self, query: Query, access: Access) -> Answer {
        match (query.query, access) {
            (Some(Question::ConfigQuery(_)), Access::Channel(_, config)) => {
                Answer::ConfigResult(of_config(&config))
            }
            (Some(Question::PeerQuery(query)), Access::Channel(channel, _))
                if query
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.chaincodes.is_empty()) =>
            {
                self.peers(Some(channel)).await
            }
            (Some(Question::PeerQuery(_) | Question::CcQuery(_)), Access::Channel(..)) => {
                error("a tidings node does not know which peers can endorse: ask an endorsing peer")
            }
            (Some(Question::LocalPeers(_)), Access::Network) => self.peers(None).await,
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

    /// Who is there, as the core said a second ago at most.
    async fn found(&self, channel: Option<ChannelId>) -> Option<Arc<[Discovered]>> {
        let mut all = self.found.lock().await;
        let now = Instant::now();
        if let Some((at, found)) = all.get(&channel)
            && now.duration_since(*at) < FRESH
        {
            return Some(Arc::clone(found));
        }
        all.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
        let (done, found) = oneshot::channel();
        let core = self.core.upgrade()?;
        let ask = driver::Request::Discover(channel.clone(), done);
        core.send(ask).await.ok()?;
        let found: Arc<[Discovered]> = found.await.ok()?.into();
        all.insert(channel, (now, Arc::clone(&found)));
        Some(found)
    }

    async fn peers(&self, channel: Option<ChannelId>) -> Answer {
        let Some(found) = self.found(channel).await else {
            return error("the node is stopping");
        };
        let mut peers_by_org: BTreeMap<String, Peers> = BTreeMap::new();
        for peer in found.iter().cloned() {
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
        let msp = MspConfig::decode(value).ok()?;
        let fabric = FabricMspConfig::decode(msp.config).ok()?;
        if msp.r#type != FABRIC {
            return None;
        }
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

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn connection(certificate: Option<&'static [u8]>) -> TlsInfo {
        TlsInfo {
            own_certificate_sha256: Some([1; 32]),
            peer_certificate_sha256: certificate.map(sha256),
            peer_certificate: certificate.map(Bytes::from_static),
            remote: None,
            handshakes: Arc::new(Semaphore::new(1)),
        }
    }

    fn request(identity: &'static [u8], hash: &[u8]) -> Bytes {
        let request = Questions {
            authentication: Some(AuthInfo {
                client_identity: Bytes::from_static(identity),
                client_tls_cert_hash: Bytes::copy_from_slice(hash),
            }),
            queries: vec![Query::default()],
        };
        request.encode_to_vec().into()
    }

    #[test]
    fn a_request_belongs_to_the_certificate_of_its_connection() {
        const SHOWN: &[u8] = b"a certificate";
        let (der, pem) = (sha256(SHOWN), sha256(to_pem(SHOWN).as_bytes()));
        let shown = connection(Some(SHOWN));
        for hash in [der, pem] {
            let (client, queries) = questions(&request(b"us", &hash), Some(&shown)).unwrap();
            assert_eq!((&client[..], queries.len()), (&b"us"[..], 1));
        }
        let refused = |request: &Bytes, connection: &TlsInfo| {
            questions(request, Some(connection))
                .unwrap_err()
                .message()
                .to_owned()
        };
        let foreign = refused(&request(b"us", &sha256(b"another")), &shown);
        assert!(foreign.contains("doesn't match"), "{foreign}");
        let none = refused(&request(b"us", &der), &connection(None));
        assert!(none.contains("didn't send a TLS certificate"), "{none}");
        let nobody = refused(&request(b"", &der), &shown);
        assert!(nobody.contains("wasn't supplied"), "{nobody}");
        assert!(refused(&Bytes::new(), &shown).contains("no authentication info"));
        assert!(refused(&Bytes::from_static(b"\xff"), &shown).contains("failed parsing"));
        // Without TLS there is nothing to belong to.
        let plain = TlsInfo {
            own_certificate_sha256: None,
            ..connection(None)
        };
        assert!(questions(&request(b"us", b""), Some(&plain)).is_ok());
    }
}
