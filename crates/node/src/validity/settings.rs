//! How peers are asked which transactions are valid.

use std::time::Duration;

/// Of these the operator says how many organizations have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValiditySettings {
    /// `validity.organizations`; 0: nobody is asked.
    pub organizations: usize,
    /// How often another peer of an organization is asked for what the one that is followed said.
    /// Whoever says otherwise is found when each has had its turn.
    pub turn: Duration,
    /// How long no known peer of an organization gives a block, and some say that they do not have it
    /// though they should, before it is asked for later ones: one that has it may not be known yet, or
    /// just restart.
    pub skip_after: Duration,
}

impl Default for ValiditySettings {
    fn default() -> Self {
        Self {
            organizations: 0,
            turn: Duration::from_secs(60),
            skip_after: Duration::from_secs(60),
        }
    }
}
