//! What organizations say of blocks, for a person.

use std::collections::BTreeMap;

use tidings_node::validity::{BlockReport, Objection, Report, Standing};
use tidings_proto::protos::TxValidationCode;

use super::outline::clean;

/// The report of a node, some lines for all and one or more for each block.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "{} organizations have to agree; so many were heard of every block below {}\n",
        report.wanted, report.heard
    );
    if let Some(first) = report.first_disputed {
        let disputed = report.disputed;
        text += &format!("DISPUTED: {disputed} blocks, the first is {first}\n");
    }
    for each in &report.organizations {
        let source = match (&each.heard_of, &each.not_heard) {
            (Some(peer), _) => format!("heard of {peer}"),
            (None, reason) => format!("not heard: {}", reason.as_deref().unwrap_or_default()),
        };
        let (org, next) = (clean(&each.organization), each.next);
        text += &format!("{org}: block {next} is next; {}\n", clean(&source));
    }
    report.blocks.iter().for_each(|said| text += &block(said));
    text
}

fn block(said: &BlockReport) -> String {
    let standing = match said.standing {
        _ if said.number == 0 => "known, the channel was joined by it",
        Standing::Unknown => "unknown",
        Standing::Claimed => "claimed",
        Standing::Agreed => "agreed",
        Standing::Disputed => "DISPUTED",
    };
    let mut text = format!("block {}: {standing}", said.number);
    if !said.claimed_by.is_empty() {
        let by = clean(&said.claimed_by.join(", "));
        text += &format!(", {} by {by}", codes(&said.codes));
    }
    text.push('\n');
    for Objection { organization, what } in &said.against {
        text += &format!("  {} has {}\n", clean(organization), clean(what));
    }
    text
}

/// How often each code is there.
fn codes(codes: &[u8]) -> String {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for code in codes {
        *counts.entry(*code).or_default() += 1;
    }
    let counts = counts.into_iter().map(|(code, count)| {
        let name = TxValidationCode::try_from(i32::from(code));
        let name = name.map_or_else(|_| code.to_string(), |code| code.as_str_name().to_owned());
        format!("{count} {name}")
    });
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use tidings_node::validity::OrganizationReport;

    use super::*;

    #[test]
    fn a_report_names_what_disagrees() {
        let said = |number, standing, codes: &[u8], by: &[&str]| BlockReport {
            number,
            standing,
            codes: codes.to_vec(),
            claimed_by: by.iter().map(|org| (*org).to_owned()).collect(),
            against: Vec::new(),
        };
        let disputed = BlockReport {
            against: vec![Objection {
                organization: "C".to_owned(),
                what: "3 codes for 2 transactions (c:1)".to_owned(),
            }],
            ..said(2, Standing::Disputed, &[11, 0, 0], &["A"])
        };
        let organization = |heard_of: Option<&str>, not_heard: Option<&str>| OrganizationReport {
            organization: "A".to_owned(),
            next: 4,
            heard_of: heard_of.map(str::to_owned),
            not_heard: not_heard.map(str::to_owned),
        };
        let report = Report {
            wanted: 2,
            height: 4,
            heard: 3,
            disputed: 1,
            first_disputed: Some(2),
            organizations: vec![
                organization(Some("a:1"), None),
                organization(None, Some("no peer")),
            ],
            blocks: vec![
                said(0, Standing::Unknown, &[], &[]),
                said(1, Standing::Agreed, &[0], &["A", "B"]),
                disputed,
                said(3, Standing::Unknown, &[], &[]),
            ],
        };
        assert_eq!(
            text(&report),
            "2 organizations have to agree; so many were heard of every block below 3\n\
             DISPUTED: 1 blocks, the first is 2\n\
             A: block 4 is next; heard of a:1\n\
             A: block 4 is next; not heard: no peer\n\
             block 0: known, the channel was joined by it\n\
             block 1: agreed, 1 VALID by A, B\n\
             block 2: DISPUTED, 2 VALID, 1 MVCC_READ_CONFLICT by A\n  C has 3 codes for 2 transactions (c:1)\n\
             block 3: unknown\n"
        );
    }

    #[test]
    fn its_json_is_as_documented() {
        let page = include_str!("../../../../docs/clients.md");
        let (_, behind) = page.split_once("```json\n").unwrap();
        let (documented, _) = behind.split_once("```").unwrap();
        let report: Report = serde_json::from_str(documented).unwrap();
        let documented: serde_json::Value = serde_json::from_str(documented).unwrap();
        assert_eq!(serde_json::to_value(report).unwrap(), documented);
    }
}
