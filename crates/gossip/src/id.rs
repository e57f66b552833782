//! Names and numbers of the protocol as types of their own, and the time that the core knows.
//!
//! Nothing here has behaviour beyond order, display and arithmetic.

use std::{fmt, sync::Arc, time::Duration};

/// Length of a PKI-ID and of a channel MAC: one SHA-256 digest.
pub const DIGEST_LEN: usize = 32;

/// Identifies a peer: SHA-256 over its MSP id and its certificate in PEM form.
///
/// Order is unsigned and lexicographic over the raw bytes, as leader election needs it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PkiId([u8; DIGEST_LEN]);

impl PkiId {
    /// Takes the raw digest.
    pub const fn new(digest: [u8; DIGEST_LEN]) -> Self {
        Self(digest)
    }

    /// Takes bytes from the wire; none unless they are exactly one digest long, as no other
    /// length can belong to an identity.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PkiId {
    /// The first eight hex digits, enough to tell peers apart in a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl fmt::Debug for PkiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name as it is written in a configuration.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as it stands in wire fields of type bytes.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }
    };
}

name! {
    /// The name of a channel.
    ChannelId
}

name! {
    /// An organization, named by its MSP id.
    OrgId
}

/// When a peer said something: its incarnation, then its sequence within it.
///
/// The derived order is the order of the protocol: a higher incarnation wins, then a higher
/// sequence; equal is not newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerTime {
    /// Nanoseconds since the Unix epoch at the start of the speaker.
    pub incarnation: u64,
    /// Counts, or for state infos tells nanoseconds, within the incarnation.
    pub sequence: u64,
}

/// Time since this node started. Made by the driver or the simulator only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the node.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A moment that lies this long after the start.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier`; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// One authenticated stream. Numbers are given by whoever runs the connections and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Ties the answer of an effect to the component that asked. Never reused within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pki_id_is_exactly_one_digest() {
        assert_eq!(PkiId::from_wire(&[7; 32]), Some(PkiId::new([7; 32])));
        assert_eq!(PkiId::from_wire(&[7; 31]), None);
        assert_eq!(PkiId::from_wire(&[7; 33]), None);
        assert_eq!(PkiId::from_wire(&[]), None);
    }

    #[test]
    fn an_incarnation_outweighs_every_sequence() {
        let time = |incarnation, sequence| PeerTime {
            incarnation,
            sequence,
        };
        assert!(time(5, 9) < time(6, 1));
        assert!(time(6, 1) < time(6, 2));
        assert_eq!(time(6, 1).cmp(&time(6, 1)), std::cmp::Ordering::Equal);
    }
}
