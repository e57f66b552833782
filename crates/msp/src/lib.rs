//! Who may say what in a Fabric channel.
//!
//! Certificates and the membership service providers (MSPs) that vouch for them, principals,
//! signatures, policies, channel configuration and block verification. The crate is pure: it
//! reads no files and no clock, starts nothing and keeps nothing but bounded memories whose only
//! effect is speed. What Go peers accept it accepts, what they refuse it refuses; the rules are
//! those of Fabric's MSP of the 3.1 line.

pub mod block;
pub mod certificate;
pub mod chain;
pub mod channel_config;
pub mod collection;
pub mod crl;
pub mod crypto;
mod der;
pub mod folder;
pub mod identity;
pub mod msp;
mod pem;
pub mod policy;
pub mod principal;
pub mod services;
#[cfg(test)]
mod testing;
pub mod verify_block;
