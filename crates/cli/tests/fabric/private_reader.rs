//! A client application of an organization that reads blocks with their private data at a Go peer,
//! by `DeliverWithPrivateData`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidings_msp::crypto::sha256;
use tidings_proto::{
    Message as _,
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position},
    protos::{BlockAndPrivateData, deliver_client::DeliverClient, deliver_response::Type},
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use crate::{
    fabnet::{CHANNEL, Fabnet, GoPeer},
    intruder::{Intruder, Wrong},
    private::{Set, Sets, Slot},
};

/// All blocks of a short chain from a busy peer.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// The largest message of a Go peer.
const MESSAGE_LEN_MAX: usize = 100 << 20;

impl Fabnet {
    /// What a Go peer keeps of private data that its own organization may see.
    #[track_caller]
    pub(crate) fn sets(&self, peer: &str) -> Sets {
        let bytes = self.private_bytes(peer).into_iter();
        bytes
            .map(|(slot, rwset)| {
                let set = Set {
                    hash: hex::encode(sha256(&rwset)),
                    len: rwset.len() as u64,
                };
                (slot, set)
            })
            .collect()
    }

    /// The same, byte for byte.
    #[track_caller]
    pub(crate) fn private_bytes(&self, peer: &str) -> std::collections::BTreeMap<Slot, Bytes> {
        let peer = self.peer(peer);
        let height = peer.height().unwrap();
        let extra = self.extra(&format!("{}-extra0", peer.org.to_lowercase()));
        let user = Intruder::new(&extra.msp_id, &self.user_msp_dir(&peer.org), &extra.tls_dir);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let read = async { timeout(READ_TIME_MAX, read(&user, peer, height)).await };
        let blocks = runtime.block_on(read).expect("the peer gives its blocks");
        blocks.into_iter().flat_map(sets_of).collect()
    }
}

/// Blocks from the first up to below `height`.
async fn read(user: &Intruder, peer: &GoPeer, height: u64) -> Vec<BlockAndPrivateData> {
    let channel = user.connect(&peer.endpoint, Wrong::NoCertificate).await;
    let mut client = DeliverClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
    let request = tokio_stream::once(seek(user, height - 1)).chain(tokio_stream::pending());
    let responses = client.deliver_with_private_data(request).await.unwrap();
    let mut responses = responses.into_inner();
    let mut blocks = Vec::new();
    loop {
        let response = responses.message().await.unwrap().unwrap();
        match response.r#type.unwrap() {
            Type::BlockAndPrivateData(block) => blocks.push(block),
            Type::Status(status) => {
                assert_eq!(status, i32::from(Status::Success), "{}", peer.name);
                assert_eq!(blocks.len() as u64, height, "{}", peer.name);
                return blocks;
            }
            other => panic!("{} gave {other:?}", peer.name),
        }
    }
}

/// The signed request for everything up to that block.
fn seek(user: &Intruder, last: u64) -> Envelope {
    let position = |number| {
        Some(SeekPosition {
            r#type: Some(seek_position::Type::Specified(SeekSpecified { number })),
        })
    };
    let seek = SeekInfo {
        start: position(0),
        stop: position(last),
        ..SeekInfo::default()
    };
    let channel_header = ChannelHeader {
        r#type: HeaderType::DeliverSeekInfo.into(),
        channel_id: CHANNEL.to_owned(),
        timestamp: Some(SystemTime::now().into()),
        ..ChannelHeader::default()
    };
    let signature_header = SignatureHeader {
        creator: user.identity(&user.msp_id),
        nonce: Bytes::from_static(&[7; 24]),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = user.sign(&payload).into();
    Envelope { payload, signature }
}

fn sets_of(given: BlockAndPrivateData) -> Vec<(Slot, Bytes)> {
    let block = given.block.unwrap().header.unwrap().number;
    let mut sets = Vec::new();
    for (tx, transaction) in given.private_data_map {
        for namespace in transaction.ns_pvt_rwset {
            for set in namespace.collection_pvt_rwset {
                let slot = Slot {
                    block,
                    tx,
                    namespace: namespace.namespace.clone(),
                    collection: set.collection_name,
                };
                sets.push((slot, set.rwset));
            }
        }
    }
    sets
}
