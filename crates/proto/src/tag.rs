//! Which tag belongs to which content, and what a message is called.
//!
//! The tag says who may see a message. Every content has exactly one legal tag; what the main loop
//! takes from the network is checked against it before anything else. Acknowledgements, handshakes
//! and private data never reach that loop and are illegal here.
//!
//! Rules: docs/protocol/wire.md.

use std::fmt;

use crate::{
    gossip::{
        GossipMessage, PullMsgType,
        gossip_message::{Content, Tag},
    },
    wire::{Field, Fields, Value},
};

/// Number of the field of the first kind; those of Fabric's others follow without gaps.
const FIRST_FIELD: u64 = 5;

/// Number of the field of [`Kind::Stripe`], far from those.
const STRIPE_FIELD: u64 = 100;

/// Checks the tag of a message that the main loop took from the network. Nested envelopes are
/// not subject to it.
pub fn check_tag(message: &GossipMessage) -> Result<(), IllegalTag> {
    let kind = message.kind().ok_or(IllegalTag::NoContent)?;
    if message.tag == Tag::Undefined as i32 {
        return Err(IllegalTag::Undefined(kind));
    }
    let required = match kind {
        Kind::DataMsg | Kind::LeadershipMsg | Kind::Stripe => Tag::ChanAndOrg,
        Kind::AliveMsg | Kind::MemReq | Kind::MemRes => Tag::Empty,
        Kind::PeerIdentity => Tag::OrgOnly,
        Kind::Hello | Kind::DataDig | Kind::DataReq | Kind::DataUpdate => {
            let number = message.pull_type().unwrap_or_default();
            match PullMsgType::try_from(number) {
                Ok(PullMsgType::BlockMsg) => Tag::ChanAndOrg,
                Ok(PullMsgType::IdentityMsg) => Tag::Empty,
                Ok(PullMsgType::Undefined) | Err(_) => {
                    return Err(IllegalTag::PullType { kind, number });
                }
            }
        }
        Kind::StateInfo
        | Kind::StateInfoPullReq
        | Kind::StateSnapshot
        | Kind::StateRequest
        | Kind::StateResponse => Tag::ChanOrOrg,
        Kind::Ack
        | Kind::Conn
        | Kind::Empty
        | Kind::PrivateReq
        | Kind::PrivateRes
        | Kind::PrivateData => return Err(IllegalTag::NotForTheLoop(kind)),
    };
    if message.tag == required as i32 {
        Ok(())
    } else {
        Err(IllegalTag::Wrong {
            kind,
            tag: message.tag,
            required,
        })
    }
}

/// Why a message is dropped. The connection stays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTag {
    /// There is no content, or one that we do not know.
    #[error("a message without known content")]
    NoContent,
    /// No tag at all.
    #[error("{0} without a tag")]
    Undefined(Kind),
    /// Another tag than the content demands; unknown numbers too.
    #[error("{kind} with tag {tag} instead of {}", required.as_str_name())]
    Wrong {
        /// What the message carries.
        kind: Kind,
        /// The number on the wire.
        tag: i32,
        /// The only legal tag.
        required: Tag,
    },
    /// A pull message for something that is not pulled.
    #[error("{kind} with unknown pull type {number}")]
    PullType {
        /// Which pull message.
        kind: Kind,
        /// The number on the wire.
        number: i32,
    },
    /// A content that other components consume and the main loop never takes.
    #[error("{0} is not for the main loop")]
    NotForTheLoop(Kind),
}

/// What a gossip message carries. Names are those of the oneof, as logs and metrics show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is a message of the protocol with a page of its own"
)]
pub enum Kind {
    AliveMsg,
    MemReq,
    MemRes,
    DataMsg,
    Hello,
    DataDig,
    DataReq,
    DataUpdate,
    Empty,
    Conn,
    StateInfo,
    StateSnapshot,
    StateInfoPullReq,
    StateRequest,
    StateResponse,
    LeadershipMsg,
    PeerIdentity,
    Ack,
    PrivateReq,
    PrivateRes,
    PrivateData,
    Stripe,
}

impl Kind {
    /// Every kind, in the order of the field numbers.
    pub const ALL: [Self; 22] = [
        Self::AliveMsg,
        Self::MemReq,
        Self::MemRes,
        Self::DataMsg,
        Self::Hello,
        Self::DataDig,
        Self::DataReq,
        Self::DataUpdate,
        Self::Empty,
        Self::Conn,
        Self::StateInfo,
        Self::StateSnapshot,
        Self::StateInfoPullReq,
        Self::StateRequest,
        Self::StateResponse,
        Self::LeadershipMsg,
        Self::PeerIdentity,
        Self::Ack,
        Self::PrivateReq,
        Self::PrivateRes,
        Self::PrivateData,
        Self::Stripe,
    ];

    /// The kind of a serialized message, without decoding it. Of bytes that do not decode it may
    /// be any.
    pub fn of_payload(payload: &[u8]) -> Option<Self> {
        let mut kind = None;
        for field in Fields::new(payload) {
            if let Field {
                number,
                value: Value::Bytes(_),
                ..
            } = field.ok()?
            {
                kind = Self::of_field(number).or(kind);
            }
        }
        kind
    }

    fn of_field(number: u64) -> Option<Self> {
        if number == STRIPE_FIELD {
            return Some(Self::Stripe);
        }
        let index = usize::try_from(number.checked_sub(FIRST_FIELD)?).ok()?;
        let kind = Self::ALL.get(index).copied();
        kind.filter(|kind| *kind != Self::Stripe)
    }

    /// The kind of a content.
    pub fn of(content: &Content) -> Self {
        match content {
            Content::AliveMsg(_) => Self::AliveMsg,
            Content::MemReq(_) => Self::MemReq,
            Content::MemRes(_) => Self::MemRes,
            Content::DataMsg(_) => Self::DataMsg,
            Content::Hello(_) => Self::Hello,
            Content::DataDig(_) => Self::DataDig,
            Content::DataReq(_) => Self::DataReq,
            Content::DataUpdate(_) => Self::DataUpdate,
            Content::Empty(_) => Self::Empty,
            Content::Conn(_) => Self::Conn,
            Content::StateInfo(_) => Self::StateInfo,
            Content::StateSnapshot(_) => Self::StateSnapshot,
            Content::StateInfoPullReq(_) => Self::StateInfoPullReq,
            Content::StateRequest(_) => Self::StateRequest,
            Content::StateResponse(_) => Self::StateResponse,
            Content::LeadershipMsg(_) => Self::LeadershipMsg,
            Content::PeerIdentity(_) => Self::PeerIdentity,
            Content::Ack(_) => Self::Ack,
            Content::PrivateReq(_) => Self::PrivateReq,
            Content::PrivateRes(_) => Self::PrivateRes,
            Content::PrivateData(_) => Self::PrivateData,
            Content::Stripe(_) => Self::Stripe,
        }
    }

    /// The name, as in the protocol's JSON form with a capital.
    pub fn name(self) -> &'static str {
        match self {
            Self::AliveMsg => "AliveMsg",
            Self::MemReq => "MemReq",
            Self::MemRes => "MemRes",
            Self::DataMsg => "DataMsg",
            Self::Hello => "Hello",
            Self::DataDig => "DataDig",
            Self::DataReq => "DataReq",
            Self::DataUpdate => "DataUpdate",
            Self::Empty => "Empty",
            Self::Conn => "Conn",
            Self::StateInfo => "StateInfo",
            Self::StateSnapshot => "StateSnapshot",
            Self::StateInfoPullReq => "StateInfoPullReq",
            Self::StateRequest => "StateRequest",
            Self::StateResponse => "StateResponse",
            Self::LeadershipMsg => "LeadershipMsg",
            Self::PeerIdentity => "PeerIdentity",
            Self::Ack => "Ack",
            Self::PrivateReq => "PrivateReq",
            Self::PrivateRes => "PrivateRes",
            Self::PrivateData => "PrivateData",
            Self::Stripe => "Stripe",
        }
    }

    /// One of the four messages of the pull protocol.
    pub fn is_pull(self) -> bool {
        matches!(
            self,
            Self::Hello | Self::DataDig | Self::DataReq | Self::DataUpdate
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl GossipMessage {
    /// What this message carries; nothing when there is no content or an unknown one.
    pub fn kind(&self) -> Option<Kind> {
        self.content.as_ref().map(Kind::of)
    }

    /// May only be seen by members of a channel.
    pub fn is_channel_restricted(&self) -> bool {
        [Tag::ChanOnly, Tag::ChanAndOrg, Tag::ChanOrOrg]
            .iter()
            .any(|tag| self.tag == *tag as i32)
    }

    /// May only be seen by the own organization.
    pub fn is_org_restricted(&self) -> bool {
        [Tag::ChanAndOrg, Tag::OrgOnly]
            .iter()
            .any(|tag| self.tag == *tag as i32)
    }

    /// One of the four messages of the pull protocol.
    pub fn is_pull(&self) -> bool {
        self.kind().is_some_and(Kind::is_pull)
    }

    /// What a pull message pulls, as the number on the wire; nothing for other contents.
    pub fn pull_type(&self) -> Option<i32> {
        match self.content.as_ref()? {
            Content::Hello(hello) => Some(hello.msg_type),
            Content::DataDig(digest) => Some(digest.msg_type),
            Content::DataReq(request) => Some(request.msg_type),
            Content::DataUpdate(update) => Some(update.msg_type),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
