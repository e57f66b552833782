//! Whether as many organizations can be heard as have to agree on which transactions are valid.

use std::collections::BTreeSet;

use tidings_node::view::View;

use super::channels::Channel;
use super::finding::Finding;

const CHECK: &str = "validity";

const SETTING: &str = "validity.organizations";

/// Of each channel, if so many organizations are wanted.
pub(super) fn judge(wanted: usize, channels: &[Channel], node: Option<&View>) -> Vec<Finding> {
    let channels = channels.iter().filter(|_| wanted > 0);
    channels
        .map(|channel| {
            let organizations = channel.config.application_organizations().values();
            let named: BTreeSet<&str> = organizations.map(|each| &*each.msp_id).collect();
            let heard = node.map(|node| heard(&channel.name, &named, node));
            let finding = one(wanted, named.len(), heard.as_ref().map(BTreeSet::len));
            channel.judged(finding.at(channel.name.clone()))
        })
        .collect()
}

/// Organizations of a channel with a member in it.
fn heard<'a>(channel: &str, named: &BTreeSet<&str>, node: &'a View) -> BTreeSet<&'a str> {
    let mut channels = node.channels.iter();
    let channel = channels.find(|seen| seen.channel == channel);
    let members = node.members.iter();
    members
        .filter(|member| channel.is_some_and(|of| of.heights.contains_key(&member.peer)))
        .filter_map(|member| member.organization.as_deref())
        .filter(|organization| named.contains(organization))
        .collect()
}

fn one(wanted: usize, named: usize, heard: Option<usize>) -> Finding {
    let never = "as long as fewer say which transactions are valid than have to agree, nothing is agreed, and clients get NOT_VALIDATED for all of them";
    if wanted > named {
        let found = format!(
            "{SETTING} is {wanted}, and the channel has {named} organizations: nothing can ever be agreed"
        );
        return Finding::fault(CHECK, found).because(never).change(
            SETTING,
            format!("write {named} or less, or 0 to ask nobody"),
        );
    }
    match heard {
        Some(heard) if heard < wanted => {
            let found = format!(
                "{SETTING} is {wanted}, and members of {heard} organizations of the channel are there now, this node not counted"
            );
            Finding::warning(CHECK, found)
                .because(never)
                .change(SETTING, "see that this node reaches validating peers of as many organizations, or write less")
        }
        _ => Finding::ok(
            CHECK,
            format!("{wanted} of {named} organizations have to agree"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn more_than_there_are_never_agree() {
        for (wanted, heard, severity) in [
            (3, None, Severity::Fault),
            (3, Some(2), Severity::Fault),
            (2, None, Severity::Ok),
            (2, Some(1), Severity::Warning),
            (2, Some(2), Severity::Ok),
        ] {
            let finding = one(wanted, 2, heard);
            assert_eq!(finding.severity, severity, "{finding:?}");
            let is_named = finding.setting.as_deref() == Some(SETTING);
            assert_eq!(is_named, severity != Severity::Ok);
        }
    }
}
