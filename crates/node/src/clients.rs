//! What client applications ask of a peer: blocks, events, the queries of `peer`, discovery.
//!
//! Serves today's clients with Fabric's checks, statuses and bytes. Everything is answered from
//! what is committed and from the configuration in force; nothing here is protocol state, and the
//! core is asked for nothing but who is there, once a second. Promises that what clients cost is bounded whoever they are, and
//! that nothing is passed off as validated that was not.
//!
//! Rules: docs/clients.md.

mod deliver;
mod discovery;
mod endorser;
mod filtered;
mod gate;
mod outlet;
mod proposal;
mod queries;
mod request;
mod roles;
mod seek;
mod service;
mod shelf;

use std::{sync::Arc, time::Duration};

use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::{
    discovery::discovery_server::DiscoveryServer, protos::endorser_server::EndorserServer,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

pub(crate) use self::{
    discovery::Discovered,
    service::RELAYED,
    shelf::{agreed, block_of, codes, codes_in},
};
use self::{
    discovery::{Discovery, REQUEST_LEN_MAX},
    endorser::{Endorser, PROPOSAL_LEN_MAX},
    gate::Gate,
    service::Deliver,
    shelf::Shelf,
};
pub use self::{
    queries::{JoinWish, JoinWishes},
    request::{Refused, Request, check_expiry},
    seek::Seek,
};
use crate::{
    comm::MESSAGE_LEN_MAX,
    crypto::Crypto,
    directory::{Directory, Served},
    driver,
    metrics::Metrics,
};

/// Streams for blocks of clients that have not shown who they are. Each has ten seconds for it, and
/// needs a round trip.
const STRANGERS_MAX: usize = 512;

/// Requests for discovery at a time, each of up to 64 KB.
const DISCOVERIES_MAX: usize = 64;

/// Proposals at a time, each of up to four megabytes: they are queries, and take milliseconds.
const PROPOSALS_MAX: usize = 64;

/// What clients may take and want.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `peer.authentication.timewindow`: how far a client's clock may be from ours.
    pub time_window: Duration,
    /// `peer.limits.concurrency.deliverService`: streams for blocks over all clients.
    pub streams_max: usize,
    /// `peer.discovery.enabled`.
    pub discovery: bool,
    /// `peer.discovery.orgMembersAllowedAccess`: members of our organization may ask for the peers
    /// of the network, not only its administrators.
    pub members_discover: bool,
    /// Takes the wishes of administrators' clients to join a channel (`peer channel join`), which
    /// the owner of the node fulfils by [`RunningNode::join`](crate::service::RunningNode::join).
    /// None: such calls are refused.
    pub joins: Option<JoinWishes>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            time_window: Duration::from_secs(15 * 60),
            streams_max: 2500,
            discovery: true,
            members_discover: false,
            joins: None,
        }
    }
}

/// What all that serves clients shares.
pub(crate) struct Shared {
    settings: ClientSettings,
    /// Requests are bound to the TLS certificate that the client showed
    /// (`peer.tls.clientAuthRequired`).
    is_bound_to_tls: bool,
    crypto: Arc<Crypto>,
    directory: Directory,
    metrics: Metrics,
    tasks: TaskTracker,
    shelf: Shelf,
    streams: Arc<Semaphore>,
    /// Streams whose request was not admitted yet.
    strangers: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        settings: ClientSettings,
        is_bound_to_tls: bool,
        (crypto, directory): (Arc<Crypto>, Directory),
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let streams_max = settings.streams_max.min(Semaphore::MAX_PERMITS);
        Self {
            settings,
            is_bound_to_tls,
            crypto,
            directory,
            metrics,
            tasks,
            shelf: Shelf::new(),
            streams: Arc::new(Semaphore::new(streams_max)),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        }
    }

    /// A channel that can be read, with its configuration in force.
    fn channel(&self, name: &str) -> Option<(Arc<Served>, Arc<ChannelConfig>)> {
        let served = self.directory.channel(name)?;
        let config = self.crypto.config(&served.channel)?;
        Some((served, config))
    }

    /// The services, to be added to those of the node's port. Members are asked of the core.
    pub(crate) fn routes(self, core: mpsc::WeakSender<driver::Request>) -> Routes {
        let shared = Arc::new(self);
        let endorser = EndorserServer::new(Endorser(Arc::clone(&shared)))
            .max_decoding_message_size(PROPOSAL_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let routes = Routes::new(Deliver(Arc::clone(&shared)))
            .add_service(Gate::new(endorser, PROPOSALS_MAX));
        if !shared.settings.discovery {
            return routes;
        }
        let discovery = DiscoveryServer::new(Discovery::new(shared, core))
            .max_decoding_message_size(REQUEST_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        routes.add_service(Gate::new(discovery, DISCOVERIES_MAX))
    }
}
