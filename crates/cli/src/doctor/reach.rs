//! Who answers at the endpoints that the configuration and the channels name.
//!
//! Dials as the node dials: TCP, TLS, ping, and the handshake of gossip with the own identity,
//! marked as a probe, so that the other end keeps nothing of it. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, join_all};
use tidings_gossip::id::{PkiId, Ticket};
use tidings_gossip::{Connection, Input, PeerIdentity};
use tidings_msp::certificate::Certificate;
use tidings_msp::services::CryptoServices;
use tidings_node::comm::{Comm, CommConfig, Inbox, Surroundings};
use tidings_node::crypto::Crypto;
use tidings_node::metrics::Metrics;
use tidings_node::service::Transport;
use tidings_node::tls::{Arrival, Listen, Tls, objection_to_der, presented};
use tidings_proto::envelope::Opened;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::service::Routes;

use super::channels::Channel;
use super::identity::Local;

/// Endpoints that are dialled: as many as fit into one look of a person.
pub(super) const ENDPOINTS_MAX: usize = 64;

/// Answers on their way.
const INPUTS_MAX: usize = 2 * ENDPOINTS_MAX;

/// For what somebody at the other end does after the times that the settings allow.
const SLACK: Duration = Duration::from_secs(5);

/// Who was met at an endpoint.
#[derive(Clone, Debug)]
pub(super) enum Met {
    /// A peer that showed who it is.
    Peer(Arc<PeerIdentity>),
    /// Something listens. There is no identity, or no TLS, to ask more with.
    Something,
    /// Nobody, or somebody that does not talk to us.
    Nobody(Refusal),
}

/// Why there is no talking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What went wrong.
    pub(super) reason: String,
    /// Organizations whose TLS roots vouch for the certificate that it shows, each with the name
    /// of the channel by which they do.
    pub(super) vouched_by: Vec<(String, String)>,
    /// Who issued that certificate; none if it shows none.
    pub(super) issuer: Option<String>,
}

/// What dialling needs.
pub(super) struct Dialler<'a> {
    pub(super) local: Option<&'a Local>,
    /// None: without. An error: the settings are no good, and nothing can be shown.
    pub(super) tls: Result<Option<Tls>, ()>,
    pub(super) transport: Transport,
    pub(super) channels: &'a [Channel],
}

impl Dialler<'_> {
    /// Dials all of them, side by side.
    pub(super) async fn meet(&self, endpoints: &BTreeSet<String>) -> BTreeMap<String, Met> {
        let endpoints = || endpoints.iter().take(ENDPOINTS_MAX);
        let (Some(local), Ok(tls)) = (self.local, &self.tls) else {
            let knocks = endpoints().map(|endpoint| async move {
                (
                    endpoint.clone(),
                    knock(endpoint, self.transport.dial_timeout).await,
                )
            });
            return join_all(knocks).await.into_iter().collect();
        };
        let identified = self.identify(local, tls.clone(), endpoints()).await;
        let met = identified.into_iter().map(|(endpoint, answer)| async {
            let met = match answer {
                Ok(peer) => Met::Peer(peer),
                Err(reason) => {
                    Met::Nobody(self.look_closer(&endpoint, reason, tls.is_some()).await)
                }
            };
            (endpoint, met)
        });
        join_all(met).await.into_iter().collect()
    }

    async fn identify<'e>(
        &self,
        local: &Local,
        tls: Option<Tls>,
        endpoints: impl Iterator<Item = &'e String>,
    ) -> BTreeMap<String, Result<Arc<PeerIdentity>, String>> {
        let services = CryptoServices::new(Arc::clone(&local.msp), Arc::clone(&local.signer));
        let services = self.channels.iter().fold(services, |services, channel| {
            services.with_channel(Arc::clone(&channel.config))
        });
        let (inputs, mut answers) = mpsc::channel(INPUTS_MAX);
        let config = CommConfig {
            dial_timeout: self.transport.dial_timeout,
            conn_timeout: self.transport.conn_timeout,
            ..CommConfig::new(PkiId::new(*local.signer.pki_id()), tls)
        };
        let surroundings = Surroundings {
            authenticator: Arc::new(Crypto::new(services)),
            inbox: Arc::new(Deaf),
            inputs,
            metrics: Metrics::new(),
        };
        let comm = Comm::start(config, Nobody, Routes::default(), surroundings);
        let mut waiting = BTreeMap::new();
        let mut met = BTreeMap::new();
        for (ticket, endpoint) in (0..).zip(endpoints) {
            match comm.handle().identify(Ticket(ticket), endpoint.clone()) {
                Some(_) => {
                    let busy = "this machine has no time for a dial".to_owned();
                    met.insert(endpoint.clone(), Err(busy));
                }
                None => _ = waiting.insert(Ticket(ticket), endpoint.clone()),
            }
        }
        let limit = self.transport.dial_timeout + 3 * self.transport.conn_timeout + SLACK;
        let listen = async {
            while !waiting.is_empty() {
                let Some(input) = answers.recv().await else {
                    return;
                };
                if let Input::Identified { ticket, peer } = input
                    && let Some(endpoint) = waiting.remove(&ticket)
                {
                    met.insert(endpoint, peer);
                }
            }
        };
        // Whoever has not answered by then is told of below.
        let _ = timeout(limit, listen).await;
        comm.stop().await;
        for endpoint in waiting.into_values() {
            met.insert(endpoint, Err(format!("no answer within {limit:?}")));
        }
        met
    }

    /// Looks at the certificate that is shown there, whoever vouches for it.
    async fn look_closer(&self, endpoint: &str, reason: String, tls: bool) -> Refusal {
        let limit = self.transport.dial_timeout;
        let shown = match tls {
            true => presented(endpoint, limit).await.unwrap_or_default(),
            false => Vec::new(),
        };
        let issuer = shown
            .first()
            .and_then(|leaf| Certificate::from_der(leaf).ok());
        Refusal {
            reason,
            vouched_by: vouchers(self.channels, &shown),
            issuer: issuer.map(|leaf| leaf.issuer().to_owned()),
        }
    }
}

/// Organizations with peers, of each channel, whose TLS roots vouch for a chain.
fn vouchers(channels: &[Channel], shown: &[Vec<u8>]) -> Vec<(String, String)> {
    let now = SystemTime::now();
    let mut vouchers = Vec::new();
    for channel in channels {
        for organization in channel.config.application_organizations().values() {
            let id = &organization.msp_id;
            let Some(msp) = channel.config.msp(id) else {
                continue;
            };
            let roots: Vec<&[u8]> = msp.tls_roots().iter().map(Vec::as_slice).collect();
            if !shown.is_empty() && objection_to_der(shown, &roots, now).is_none() {
                vouchers.push((id.clone(), channel.name.clone()));
            }
        }
    }
    vouchers
}

/// Whether anything listens.
async fn knock(endpoint: &str, limit: Duration) -> Met {
    let refusal = |reason: String| {
        Met::Nobody(Refusal {
            reason,
            ..Refusal::default()
        })
    };
    match timeout(limit, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => Met::Something,
        Ok(Err(error)) => refusal(format!("cannot connect to {endpoint}: {error}")),
        Err(_elapsed) => refusal(format!("cannot connect to {endpoint} within {limit:?}")),
    }
}

/// Nobody connects to us.
struct Nobody;

impl Listen for Nobody {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        Poll::Pending
    }
}

/// No connection stays long enough for a message.
struct Deaf;

impl Inbox for Deaf {
    fn receive(&self, _: Arc<Connection>, _: Opened) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
