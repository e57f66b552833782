//! Somebody with a certificate and a connection who says what he likes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tidings_gossip::{Connection, effect::Destination, id::PkiId};
use tidings_msp::{
    channel_config::ChannelConfig,
    crypto::PrivateKey,
    msp::{Msp, MspVersion},
    services::CryptoServices,
};
use tidings_node::{
    comm::{Comm, CommConfig, Inbox, Surroundings},
    crypto::Crypto,
    metrics::Metrics,
    service::RunningNode,
};
use tidings_proto::{
    envelope::Opened,
    gossip::{
        Envelope, GossipMessage,
        gossip_message::{Content, Tag},
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use crate::{
    material::{CHANNEL, Member, Organization},
    peer::soon,
};

/// Messages that may wait for the test; nodes that do not know it say little.
const HEARD_MAX: usize = 4096;

/// Ends when it is dropped.
pub(crate) struct Talker {
    comm: Comm,
    heard: mpsc::Receiver<GossipMessage>,
    _tasks: JoinSet<()>,
}

struct Ear(mpsc::Sender<GossipMessage>);

impl Inbox for Ear {
    fn receive(&self, _: Arc<Connection>, message: Opened) -> BoxFuture<'_, ()> {
        let (_, message) = message.into_parts();
        // The test may have heard enough.
        let _ = self.0.try_send(message);
        async {}.boxed()
    }
}

impl Talker {
    /// On the channel that begins with this block.
    pub(crate) async fn new(org: &Organization, member: &Member, genesis: &Bytes) -> Self {
        let msp = Arc::new(Msp::from_config(&org.msp(), MspVersion::V3_0).unwrap());
        let key = PrivateKey::from_pem(member.key_pem.as_bytes()).unwrap();
        let certificate = member.certificate_pem.as_bytes();
        let signer = msp.signing_identity(certificate, key, 0).unwrap();
        let config = ChannelConfig::from_config_block(genesis).unwrap();
        let services = CryptoServices::new(msp, Arc::new(signer)).with_channel(Arc::new(config));
        let crypto = Arc::new(Crypto::new(services));
        let id = crypto.own_identity().pki_id;
        let (ear, heard) = mpsc::channel(HEARD_MAX);
        let (inputs, mut told) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while told.recv().await.is_some() {} });
        let comm = Comm::start(
            CommConfig::new(id, None),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tonic::service::Routes::default(),
            Surroundings {
                authenticator: crypto,
                inbox: Arc::new(Ear(ear)),
                inputs,
                metrics: Metrics::new(),
            },
        );
        Self {
            comm,
            heard,
            _tasks: tasks,
        }
    }

    /// Says something about the channel.
    pub(crate) fn say(&self, to: &RunningNode, nonce: u64, content: Content) {
        let address = to.address().to_string();
        self.say_at((to.me().identity.pki_id, &address), nonce, content);
    }

    /// As [`Self::say`], to whoever is there.
    pub(crate) fn say_at(&self, (peer, address): (PkiId, &str), nonce: u64, content: Content) {
        let destination = Destination {
            peer,
            endpoint: address.to_owned(),
        };
        let tag = match content {
            Content::StateRequest(_) => Tag::ChanOrOrg,
            _ => Tag::ChanOnly,
        };
        let message = GossipMessage {
            nonce,
            channel: CHANNEL.into(),
            tag: tag.into(),
            content: Some(content),
        };
        let envelope = Envelope::unsigned(&message);
        self.comm.handle().send(destination, envelope);
    }

    /// The next acknowledgement.
    pub(crate) async fn acknowledged(&mut self) -> GossipMessage {
        loop {
            let message = soon(self.heard.recv()).await.unwrap();
            if matches!(message.content, Some(Content::Ack(_))) {
                return message;
            }
        }
    }

    /// What came and was not listened to.
    pub(crate) fn heard_already(&mut self) -> Vec<GossipMessage> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// The answer under this nonce.
    pub(crate) async fn hears(&mut self, nonce: u64) -> Content {
        loop {
            let message = soon(self.heard.recv()).await.unwrap();
            if message.nonce == nonce
                && let Some(content) = message.content
            {
                return content;
            }
        }
    }
}
