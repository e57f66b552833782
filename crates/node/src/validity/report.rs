//! What is known of a channel's validity, for a person, and for programs as the JSON of `tidings
//! channel validity --json`, which docs/clients.md describes.

use super::{known::Source, standings::Validity, word::Standing};

/// Blocks in one report.
const REPORT_LEN_MAX: u64 = 10;

/// What is known of a channel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many organizations have to agree.
    pub wanted: usize,
    /// Blocks in the ledger.
    pub height: u64,
    /// So many organizations have been heard of all blocks below.
    pub heard: u64,
    /// How many blocks are disputed.
    pub disputed: u64,
    /// The first of them.
    pub first_disputed: Option<u64>,
    /// Every organization of the channel.
    pub organizations: Vec<OrganizationReport>,
    /// Blocks, ascending.
    pub blocks: Vec<BlockReport>,
}

/// How an organization is heard.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationReport {
    /// The id of its MSP.
    pub organization: String,
    /// The block that is awaited of it.
    pub next: u64,
    /// The endpoint of the peer that is heard, if one is.
    pub heard_of: Option<String>,
    /// Why none is.
    pub not_heard: Option<String>,
}

/// What is known of a block.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockReport {
    /// Its number.
    pub number: u64,
    /// Where it stands.
    pub standing: Standing,
    /// The codes that were heard first.
    pub codes: Vec<u8>,
    /// Who gave these.
    pub claimed_by: Vec<String>,
    /// Who says what otherwise.
    pub against: Vec<Objection>,
}

/// What an organization says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objection {
    /// The id of its MSP.
    pub organization: String,
    /// What it has, and at which peer.
    pub what: String,
}

impl Validity {
    /// What is known of this block, or of the last below `height`. Reads from the disk.
    pub fn report(&self, block: Option<u64>, height: u64) -> Result<Report, String> {
        let (disputed, first_disputed) = self.disputed()?;
        let numbers = match block {
            Some(number) if number >= height => {
                let channel = &self.channel;
                return Err(format!(
                    "block {number} is not there: channel '{channel}' has height {height}"
                ));
            }
            Some(number) => number..number + 1,
            None => height.saturating_sub(REPORT_LEN_MAX)..height,
        };
        let mut words = self.words(numbers.clone())?;
        let blocks = numbers.map(|number| {
            let word = words.remove(&number).unwrap_or_default();
            let against = word.against.iter().map(|dissent| Objection {
                organization: dissent.org.clone(),
                what: dissent.what.clone(),
            });
            BlockReport {
                number,
                standing: word.standing(self.wanted),
                codes: word.codes.to_vec(),
                against: against.collect(),
                claimed_by: word.by,
            }
        });
        Ok(Report {
            wanted: self.wanted,
            height,
            heard: self.heard(),
            disputed,
            first_disputed,
            blocks: blocks.collect(),
            organizations: self.organizations(),
        })
    }

    fn organizations(&self) -> Vec<OrganizationReport> {
        let known = self.known.borrow();
        let each = known.sources.iter().map(|(org, source)| {
            let (heard_of, not_heard) = match source {
                Source::Heard(endpoint) => (Some(endpoint.clone()), None),
                Source::Silent(reason) => (None, Some(reason.clone())),
            };
            OrganizationReport {
                organization: org.clone(),
                next: known.next.get(org).copied().unwrap_or(1),
                heard_of,
                not_heard,
            }
        });
        each.collect()
    }
}
