//! A peer that asks outright for private data and for state infos, whoever it is.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tidings_msp::{crypto::sha256_parts, identity::pki_id};
use tidings_proto::{
    Message as _,
    gossip::{
        Empty, Envelope, GossipMessage, PvtDataDigest, PvtDataElement, RemotePvtDataRequest,
        RemoteStateRequest, RemoteStateResponse, StateInfoPullRequest,
        gossip_client::GossipClient,
        gossip_message::{Content, Tag},
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    fabnet::{CHANNEL, Extra},
    intruder::{Intruder, Wrong},
    private::{Promises, Slot},
};

/// Every request is answered, with nothing if need be.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// By which the answer is known.
const NONCE: u64 = 4711;

/// Digests of everything that was promised, as a member asks for it after the commit.
pub(crate) fn digests(promises: &Promises) -> Vec<PvtDataDigest> {
    promises.keys().map(|slot| digest(slot, "")).collect()
}

/// The digest of one write set.
pub(crate) fn digest(slot: &Slot, tx_id: &str) -> PvtDataDigest {
    PvtDataDigest {
        tx_id: tx_id.to_owned(),
        namespace: slot.namespace.clone(),
        collection: slot.collection.clone(),
        block_seq: slot.block,
        seq_in_block: slot.tx,
    }
}

impl Extra {
    /// What whoever has this identity is given when it asks for these.
    #[track_caller]
    pub(crate) fn asks(&self, endpoint: &str, digests: Vec<PvtDataDigest>) -> Vec<PvtDataElement> {
        let request = Content::PrivateReq(RemotePvtDataRequest { digests });
        match self.hears(endpoint, Tag::ChanOnly, request) {
            Content::PrivateRes(response) => response.elements,
            other => panic!("{endpoint} answered {other:?}"),
        }
    }

    /// With how many transactions' private data blocks come when it asks for the blocks.
    #[track_caller]
    pub(crate) fn transfers(&self, endpoint: &str, blocks: &BTreeSet<u64>) -> usize {
        let mut along = 0;
        for block in blocks {
            let request = Content::StateRequest(RemoteStateRequest {
                start_seq_num: *block,
                end_seq_num: *block,
            });
            match self.hears(endpoint, Tag::ChanOrOrg, request) {
                Content::StateResponse(RemoteStateResponse { payloads }) => {
                    assert_eq!(payloads.len(), 1, "{endpoint}");
                    along += payloads[0].private_data.len();
                }
                other => panic!("{endpoint} answered {other:?}"),
            }
        }
        along
    }

    /// What it is told of the peers of the channel, envelope by envelope.
    #[track_caller]
    pub(crate) fn state_infos(&self, endpoint: &str) -> Vec<Envelope> {
        let identity =
            Intruder::new(&self.msp_id, &self.msp_dir, &self.tls_dir).identity(&self.msp_id);
        let pki_id = pki_id(&identity).expect("it is an identity");
        let request = Content::StateInfoPullReq(StateInfoPullRequest {
            channel_mac: Bytes::copy_from_slice(&sha256_parts(&[&pki_id, CHANNEL.as_bytes()])),
            known: Bytes::new(),
        });
        match self.hears(endpoint, Tag::ChanOrOrg, request) {
            Content::StateSnapshot(snapshot) => snapshot.elements,
            other => panic!("{endpoint} answered {other:?}"),
        }
    }

    #[track_caller]
    fn hears(&self, endpoint: &str, tag: Tag, request: Content) -> Content {
        let asker = Intruder::new(&self.msp_id, &self.msp_dir, &self.tls_dir);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let talk = async { timeout(ANSWER_TIME_MAX, ask(&asker, endpoint, tag, request)).await };
        runtime.block_on(talk).expect("the peer answers")
    }
}

async fn ask(asker: &Intruder, endpoint: &str, tag: Tag, request: Content) -> Content {
    let mut client = GossipClient::new(asker.connect(endpoint, Wrong::Nothing).await);
    client.ping(Empty::default()).await.unwrap();
    let (say, said) = mpsc::channel(2);
    say.send(asker.first(Wrong::Nothing, false)).await.unwrap();
    // Whoever asks for state infos proves to know the channel, and does not name it.
    let channel = match request {
        Content::StateInfoPullReq(_) => Bytes::new(),
        _ => Bytes::from_static(CHANNEL.as_bytes()),
    };
    let request = GossipMessage {
        nonce: NONCE,
        channel: channel.clone(),
        tag: tag.into(),
        content: Some(request),
    };
    say.send(Envelope::unsigned(&request)).await.unwrap();
    let stream = client.gossip_stream(ReceiverStream::new(said)).await;
    let mut heard = stream.unwrap().into_inner();
    loop {
        let envelope = heard.message().await.unwrap().unwrap();
        let message = GossipMessage::decode(envelope.payload).unwrap();
        // Whoever is asked has its own questions, too.
        let is_snapshot = matches!(message.content, Some(Content::StateSnapshot(_)));
        if is_snapshot || (message.nonce == NONCE && message.channel == channel) {
            return message.content.unwrap();
        }
    }
}
