//! What organizations say of one block, and what comes of it. Pure.
//!
//! Promises: [`Standing::Agreed`] means that as many organizations as were asked for gave these very
//! codes, and that none gave others. One that says otherwise is enough for [`Standing::Disputed`],
//! for good: who is right, no count of voices tells.

use bytes::Bytes;
use prost::Message;
use tidings_msp::crypto::sha256;
use tidings_proto::{
    block::BlockView,
    common::BlockMetadataIndex,
    protos::TxValidationCode::{self, NotValidated},
};

/// Organizations whose word is taken, and so how long a row can get. More than that agree on
/// nothing that these do not.
pub const ORGANIZATIONS_MAX: usize = 16;

/// Bytes of the metadata entry with the commit hash. Go's has 34.
const COMMIT_HASH_LEN_MAX: usize = 128;

/// What one peer serves of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The hashed form of the header.
    pub(super) header: Vec<u8>,
    /// With another header than ours: whether the orderers signed that one.
    pub(super) is_signed: bool,
    pub(super) codes: Bytes,
    /// The metadata entry; empty if the peer has none.
    pub(super) commit_hash: Bytes,
}

/// What our ledger has of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    pub(super) header: Vec<u8>,
    pub(super) transactions: usize,
}

/// In which respect an organization says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Count,
    Codes,
    CommitHash,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Header, Self::Count, Self::Codes, Self::CommitHash];

    /// As a label of a metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Count => "count",
            Self::Codes => "codes",
            Self::CommitHash => "commit hash",
        }
    }
}

/// All labels of disagreements.
pub(crate) fn kinds() -> [&'static str; 4] {
    Kind::ALL.map(Kind::label)
}

/// What a claim comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Known before, or one too many.
    Nothing,
    /// Another organization that says the same, or the first.
    Agrees,
    /// One that says otherwise.
    Dissents(Kind),
}

/// How far the codes of a block can be relied on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// No organization has said anything.
    Unknown,
    /// Fewer organizations than the operator asks for said the same, and none anything else.
    Claimed,
    /// As many as the operator asks for.
    Agreed,
    /// Not all say the same.
    Disputed,
}

/// What organizations say of a block, as it is stored.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Word {
    /// The codes that were heard first.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) codes: Bytes,
    /// The first commit hash with these codes.
    #[prost(bytes = "bytes", tag = "2")]
    commit_hash: Bytes,
    /// Who says so.
    #[prost(string, repeated, tag = "3")]
    pub(super) by: Vec<String>,
    /// Who says otherwise.
    #[prost(message, repeated, tag = "4")]
    pub(super) against: Vec<Dissent>,
    /// SHA-256 of the header of our block. A ledger that was made anew may hold another one.
    #[prost(bytes = "bytes", tag = "5")]
    block: Bytes,
}

/// What an organization says otherwise.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Dissent {
    #[prost(string, tag = "1")]
    pub(super) org: String,
    /// For a person.
    #[prost(string, tag = "2")]
    pub(super) what: String,
}

impl Claim {
    /// What a block with its metadata says; nothing if its peer does not know the codes itself, which
    /// a node that validates nothing says by `NOT_VALIDATED`.
    pub(super) fn of(block: &BlockView) -> Result<Self, &'static str> {
        let header = block.header_asn1().ok_or("has no header")?;
        let entry = |index: BlockMetadataIndex| {
            let entry = block.metadata().nth(index as usize).unwrap_or_default();
            // Not a slice, which would hold the whole message.
            Bytes::copy_from_slice(&entry)
        };
        let codes = entry(BlockMetadataIndex::TransactionsFilter);
        if codes.is_empty() || codes.contains(&(NotValidated as u8)) {
            return Err("has no codes: the peer validates nothing");
        }
        let commit_hash = entry(BlockMetadataIndex::CommitHash);
        if commit_hash.len() > COMMIT_HASH_LEN_MAX {
            return Err("has a commit hash that is too long");
        }
        Ok(Self {
            header,
            is_signed: false,
            codes,
            commit_hash,
        })
    }

    /// In which respect this cannot be of our block, or is not what others said of it.
    fn objection(&self, word: &Word, ours: &Ours) -> Option<(Kind, String)> {
        if self.header != ours.header {
            let text = if self.is_signed {
                "another block, which the orderers signed as well"
            } else {
                "another block, without good signatures of the orderers"
            };
            return Some((Kind::Header, text.to_owned()));
        }
        if self.codes.len() != ours.transactions {
            let text = format!(
                "{} codes for {} transactions",
                self.codes.len(),
                ours.transactions
            );
            return Some((Kind::Count, text));
        }
        if word.by.is_empty() {
            return None;
        }
        let mut pairs = self.codes.iter().zip(&word.codes);
        if let Some(position) = pairs.position(|(theirs, said)| theirs != said) {
            let name = |codes: &Bytes| codes.get(position).map_or_else(String::new, name);
            let text = format!(
                "transaction {position} as {}, not as {}",
                name(&self.codes),
                name(&word.codes)
            );
            return Some((Kind::Codes, text));
        }
        let both = !self.commit_hash.is_empty() && !word.commit_hash.is_empty();
        (both && self.commit_hash != word.commit_hash).then(|| {
            let text = "another commit hash: an earlier block or the state differs";
            (Kind::CommitHash, text.to_owned())
        })
    }
}

impl Word {
    /// Whether this was said of the block with this header.
    pub(super) fn is_of(&self, header: &[u8]) -> bool {
        self.block == hash(header)
    }

    /// Takes what this peer of this organization says of our block. Two of one organization that say
    /// different things disagree as two of different ones do.
    pub(super) fn hear(&mut self, org: &str, peer: &str, claim: &Claim, ours: &Ours) -> Heard {
        if !self.is_of(&ours.header) {
            *self = Self {
                block: hash(&ours.header),
                ..Self::default()
            };
        }
        if let Some((kind, what)) = claim.objection(self, ours) {
            let known = self.against.iter().any(|dissent| dissent.org == org);
            if known || self.against.len() >= ORGANIZATIONS_MAX {
                return Heard::Nothing;
            }
            self.against.push(Dissent {
                org: org.to_owned(),
                what: format!("{what} ({peer})"),
            });
            return Heard::Dissents(kind);
        }
        if self.by.iter().any(|known| known == org) || self.by.len() >= ORGANIZATIONS_MAX {
            return Heard::Nothing;
        }
        if self.by.is_empty() {
            self.codes = claim.codes.clone();
        }
        if self.commit_hash.is_empty() {
            self.commit_hash = claim.commit_hash.clone();
        }
        self.by.push(org.to_owned());
        Heard::Agrees
    }

    /// Of which block which codes are agreed, if so many organizations have to.
    pub(super) fn agreed(&self, wanted: usize) -> Option<(Bytes, Bytes)> {
        let is_agreed = self.standing(wanted) == Standing::Agreed;
        is_agreed.then(|| (self.block.clone(), self.codes.clone()))
    }

    /// Where the block stands, if so many organizations have to agree.
    pub(super) fn standing(&self, wanted: usize) -> Standing {
        if !self.against.is_empty() {
            Standing::Disputed
        } else if self.by.is_empty() {
            Standing::Unknown
        } else if self.by.len() >= wanted {
            Standing::Agreed
        } else {
            Standing::Claimed
        }
    }

    /// Who says what, for a person.
    pub(super) fn dispute(&self) -> String {
        let against: Vec<String> = self
            .against
            .iter()
            .map(|Dissent { org, what }| format!("{org} has {what}"))
            .collect();
        let by = match &self.by[..] {
            [] => String::new(),
            by => format!(", against {}", by.join(", ")),
        };
        format!("{}{by}", against.join("; "))
    }
}

/// Of the hashed form of a header.
pub(super) fn hash(header: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&sha256(header))
}

/// A code for a person.
fn name(code: &u8) -> String {
    let known = TxValidationCode::try_from(i32::from(*code));
    known.map_or_else(|_| code.to_string(), |code| code.as_str_name().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};
    use tidings_proto::common::{Block, BlockHeader, BlockMetadata};

    use super::*;

    fn ours() -> Ours {
        Ours {
            header: vec![7],
            transactions: 2,
        }
    }

    fn claim(codes: &[u8], commit_hash: &'static str) -> Claim {
        Claim {
            header: vec![7],
            is_signed: false,
            codes: Bytes::copy_from_slice(codes),
            commit_hash: Bytes::from_static(commit_hash.as_bytes()),
        }
    }

    #[test]
    fn a_block_says_something_only_with_codes_of_its_own() {
        let said = |codes: &[u8], hash_len: usize| {
            let mut metadata = vec![Bytes::new(); 5];
            metadata[2] = Bytes::copy_from_slice(codes);
            metadata[4] = vec![1; hash_len].into();
            let block = Block {
                header: Some(BlockHeader::default()),
                metadata: Some(BlockMetadata { metadata }),
                ..Block::default()
            };
            let block = BlockView::parse(block.encode_to_vec().into()).unwrap();
            Claim::of(&block).map(|claim| (claim.codes.to_vec(), claim.commit_hash.len()))
        };
        let longest = COMMIT_HASH_LEN_MAX;
        assert_eq!(said(&[0, 11], 0), Ok((vec![0, 11], 0)));
        assert_eq!(said(&[0, 11], longest), Ok((vec![0, 11], longest)));
        assert!(
            said(&[0, 11], longest + 1)
                .unwrap_err()
                .contains("too long")
        );
        for nothing in [&[][..], &[0, 254], &[254]] {
            assert!(said(nothing, 0).unwrap_err().contains("validates nothing"));
        }
    }

    #[test]
    fn organizations_that_say_the_same_agree_and_each_counts_once() {
        let mut word = Word::default();
        assert_eq!(word.standing(1), Standing::Unknown);
        let same = claim(&[0, 11], "");
        assert_eq!(word.hear("A", "a:1", &same, &ours()), Heard::Agrees);
        assert_eq!(word.hear("A", "a:1", &same, &ours()), Heard::Nothing);
        assert_eq!(
            (word.standing(1), word.standing(2)),
            (Standing::Agreed, Standing::Claimed)
        );
        // One that has no commit hash says nothing against those that have.
        assert_eq!(
            word.hear("B", "b:1", &claim(&[0, 11], "x"), &ours()),
            Heard::Agrees
        );
        assert_eq!(
            (word.standing(2), word.standing(3)),
            (Standing::Agreed, Standing::Claimed)
        );
        assert_eq!(word.codes[..], [0, 11]);
        let read = Word::decode(&word.encode_to_vec()[..]).unwrap();
        assert_eq!(read, word);
    }

    #[test]
    fn whoever_says_otherwise_is_told_of_once_and_in_what() {
        let other_header = |is_signed| Claim {
            header: vec![8],
            is_signed,
            ..claim(&[0, 11], "x")
        };
        for (other, kind, what) in [
            (
                other_header(true),
                Kind::Header,
                "B has another block, which the orderers signed as well",
            ),
            (
                other_header(false),
                Kind::Header,
                "B has another block, without good signatures of the orderers",
            ),
            (
                claim(&[0], "x"),
                Kind::Count,
                "B has 1 codes for 2 transactions",
            ),
            (
                claim(&[0, 0, 0], "x"),
                Kind::Count,
                "B has 3 codes for 2 transactions",
            ),
            (
                claim(&[0, 0], "x"),
                Kind::Codes,
                "B has transaction 1 as VALID, not as MVCC_READ_CONFLICT",
            ),
            (
                claim(&[200, 11], ""),
                Kind::Codes,
                "B has transaction 0 as 200, not as VALID",
            ),
            (
                claim(&[0, 11], "y"),
                Kind::CommitHash,
                "B has another commit hash: an earlier block or the state differs",
            ),
        ] {
            let mut word = Word::default();
            word.hear("A", "a:1", &claim(&[0, 11], "x"), &ours());
            assert_eq!(
                word.hear("B", "b:1", &other, &ours()),
                Heard::Dissents(kind)
            );
            assert_eq!(word.hear("B", "b:1", &other, &ours()), Heard::Nothing);
            assert_eq!(word.dispute(), format!("{what} (b:1), against A"));
            // No number of others makes it good again.
            word.hear("C", "c:1", &claim(&[0, 11], "x"), &ours());
            assert_eq!(word.standing(1), Standing::Disputed);
        }
    }

    #[test]
    fn peers_of_one_organization_disagree_as_others_do() {
        let mut word = Word::default();
        word.hear("A", "a:1", &claim(&[0, 11], ""), &ours());
        word.hear("B", "b:1", &claim(&[0, 11], ""), &ours());
        let heard = word.hear("A", "a:2", &claim(&[0, 0], ""), &ours());
        assert_eq!(heard, Heard::Dissents(Kind::Codes));
        assert_eq!(word.standing(1), Standing::Disputed);
        let expected =
            "A has transaction 1 as VALID, not as MVCC_READ_CONFLICT (a:2), against A, B";
        assert_eq!(word.dispute(), expected);
    }

    #[test]
    fn one_that_says_first_what_cannot_be_is_no_measure_for_others() {
        let mut word = Word::default();
        let heard = word.hear("B", "b:1", &claim(&[0], "x"), &ours());
        assert_eq!(heard, Heard::Dissents(Kind::Count));
        assert_eq!(
            word.hear("A", "a:1", &claim(&[0, 11], "x"), &ours()),
            Heard::Agrees
        );
        assert_eq!(
            (&word.codes[..], word.standing(1)),
            (&[0, 11][..], Standing::Disputed)
        );
    }

    #[test]
    fn what_was_said_of_another_chain_is_not_said_of_this_one() {
        let mut word = Word::default();
        word.hear("A", "a:1", &claim(&[0, 11], ""), &ours());
        assert!(word.is_of(&[7]) && !word.is_of(&[8]));
        let anew = Ours {
            header: vec![8],
            transactions: 2,
        };
        let claim = Claim {
            header: vec![8],
            ..claim(&[0, 0], "")
        };
        assert_eq!(word.hear("B", "b:1", &claim, &anew), Heard::Agrees);
        assert_eq!(
            (&word.by[..], word.is_of(&[8])),
            (&["B".to_owned()][..], true)
        );
    }

    #[test]
    fn what_is_said_of_a_block_has_an_end() {
        let mut word = Word::default();
        for org in 0..ORGANIZATIONS_MAX + 1 {
            word.hear(&format!("a{org}"), "", &claim(&[0, 0], ""), &ours());
            word.hear(&format!("b{org}"), "", &claim(&[0, 1], ""), &ours());
        }
        assert_eq!(
            (word.by.len(), word.against.len()),
            (ORGANIZATIONS_MAX, ORGANIZATIONS_MAX)
        );
    }

    proptest! {
        #[test]
        fn agreed_are_only_codes_that_so_many_gave_and_nobody_contradicted(
            claims in vec((0..5_u8, vec(0..2_u8, 1..3), 0..3_usize, 7..9_u8), 0..12),
            wanted in 1..5_usize,
        ) {
            let mut word = Word::default();
            let mut heard = Vec::new();
            for (org, codes, hash, header) in claims {
                // Mostly ours.
                let header = if header == 8 && codes == [1] { 8 } else { 7 };
                let claim = Claim { header: vec![header], ..claim(&codes, ["", "x", "y"][hash]) };
                word.hear(&org.to_string(), "", &claim, &ours());
                heard.push((org, claim));
            }
            if word.standing(wanted) == Standing::Agreed {
                let orgs: BTreeSet<u8> = heard.iter().map(|(org, _)| *org).collect();
                prop_assert!(orgs.len() >= wanted);
                prop_assert_eq!(word.codes.len(), 2);
                let hashes: BTreeSet<&Bytes> = heard
                    .iter()
                    .map(|(_, claim)| &claim.commit_hash)
                    .filter(|hash| !hash.is_empty())
                    .collect();
                prop_assert!(hashes.len() <= 1);
                for (_, claim) in &heard {
                    prop_assert_eq!(&claim.codes, &word.codes);
                    prop_assert_eq!(&claim.header, &[7]);
                }
            }
            // And whoever all say the same is believed.
            let all_same = heard.windows(2).all(|pair| pair[0].1 == pair[1].1);
            if let [(_, first), ..] = &heard[..] && all_same && first.codes.len() == 2 && first.header == [7] {
                prop_assert!(word.against.is_empty());
            }
        }
    }
}
