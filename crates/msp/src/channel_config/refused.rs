//! Why a channel configuration is refused.

use tidings_proto::{Malformed, block::NoHead};

use super::{
    go_duration::NotADuration,
    tree::{CONFIG_DEPTH_MAX, CONFIG_ELEMENTS_MAX, CONFIG_LEN_MAX},
};
use crate::{msp::MspRefused, policy::PolicyTreeRefused};

/// Why bytes are no configuration that we can run a channel under. What stops a whole Go peer
/// stops, for us, this channel alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefused {
    /// The block does not parse.
    #[error("the block does not parse: {0}")]
    Block(#[from] Malformed),
    /// The first transaction does not say what it is.
    #[error("the configuration transaction: {0}")]
    Head(#[from] NoHead),
    /// Not exactly one transaction of type CONFIG.
    #[error("not a configuration block: it must hold one transaction, of type CONFIG")]
    NotConfigBlock,
    /// More bytes than any configuration has.
    #[error("a configuration of {0} bytes, at most {CONFIG_LEN_MAX} are read")]
    TooLong(usize),
    /// A message inside does not decode.
    #[error("{path} does not decode: {source}")]
    Undecodable {
        /// What did not decode.
        path: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// A part that must be there is not.
    #[error("the configuration has no {0}")]
    Missing(&'static str),
    /// The name of the channel is not allowed.
    #[error("channel id '{0}' must match [a-z][a-z0-9.-]* and have at most 249 characters")]
    ChannelId(String),
    /// The name of an element is not allowed.
    #[error("name of '{0}' must match [a-zA-Z0-9.-]+, have at most 249 characters, not be . or ..")]
    Key(String),
    /// Groups nest too deep.
    #[error("configuration groups nest deeper than {CONFIG_DEPTH_MAX}")]
    TooDeep,
    /// The tree is too large.
    #[error("the configuration has more than {CONFIG_ELEMENTS_MAX} elements")]
    TooLarge,
    /// A value with a name that has no meaning there.
    #[error("unexpected value {0}")]
    UnknownValue(String),
    /// A group that may not be there.
    #[error("unexpected group {0}")]
    UnknownGroup(String),
    /// Capabilities that need the orderer's capabilities first.
    #[error("{0} capabilities are set, but the orderer section has none")]
    CapabilitiesWithoutOrderer(&'static str),
    /// A capability that we do not have.
    #[error("{section} capability {name} is not supported by this version: upgrade the node")]
    UnsupportedCapability {
        /// `channel` or `application`.
        section: &'static str,
        /// Its name.
        name: String,
    },
    /// Not a hash that Fabric knows.
    #[error("hashing algorithm '{0}' is neither SHA256 nor SHA3_256")]
    HashingAlgorithm(String),
    /// Not the only width that Fabric knows.
    #[error("block data hashing width {0} is not 4294967295")]
    HashingWidth(u32),
    /// Without per-organization endpoints the global list is needed.
    #[error("orderer addresses must be set below capability V1_4_2")]
    NoOrdererAddresses,
    /// With V3_0 the global list is forbidden.
    #[error("global orderer addresses are not allowed with capability V3_0")]
    GlobalOrdererAddresses,
    /// ACLs need a capability.
    #[error("ACLs need application capability V1_2 or later")]
    AclsWithoutCapability,
    /// Endpoints of an organization need a capability.
    #[error("orderer organization {0} has endpoints, which need capability V1_4_2 or later")]
    EndpointsWithoutCapability(String),
    /// With V3_0 each orderer organization has endpoints.
    #[error("orderer organization {0} has no endpoints, which capability V3_0 demands")]
    NoEndpoints(String),
    /// Batch sizes that make no sense.
    #[error(
        "batch size: all three must be above zero and preferred ({preferred}) at most absolute \
         ({absolute}); message count is {count}"
    )]
    BatchSize {
        /// Messages in a block.
        count: u32,
        /// Most bytes.
        absolute: u32,
        /// Preferred bytes.
        preferred: u32,
    },
    /// A batch timeout that is no duration.
    #[error("batch timeout '{text}': {refused}")]
    BatchTimeout {
        /// As configured.
        text: String,
        /// Why not.
        refused: NotADuration,
    },
    /// A batch timeout that is not positive.
    #[error("batch timeout '{0}' must be above zero")]
    BatchTimeoutZero(String),
    /// An organization whose MSP cannot be set up.
    #[error("MSP of {path}: {refused}")]
    Msp {
        /// The organization.
        path: String,
        /// Why.
        refused: MspRefused,
    },
    /// An MSP of another kind than X.509.
    #[error("MSP of {path} has type {kind}; only type 0 (X.509) is supported")]
    MspKind {
        /// The organization.
        path: String,
        /// The type.
        kind: i32,
    },
    /// An MSP without a name.
    #[error("MSP of {0} has an empty id")]
    EmptyMspId(String),
    /// Two organizations give one MSP different content.
    #[error("MSP {0} is defined twice with different content")]
    MspRedefined(String),
    /// A policy that does not compile.
    #[error("{0}")]
    Policies(#[from] PolicyTreeRefused),
    /// A block policy that needs no signature at all.
    #[error("/Channel/Orderer/BlockValidation is satisfied without any signature")]
    OpenBlockValidation,
}
