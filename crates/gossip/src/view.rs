//! What a component may read of others.

use crate::{config::Me, discovery::Discovery, identity::Identities};

/// The parts of a node that others read and never change.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Who we are.
    pub me: &'a Me,
    /// Who is known.
    pub identities: &'a Identities,
    /// Who is there.
    pub discovery: &'a Discovery,
}
