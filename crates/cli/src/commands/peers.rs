//! `tidings peers`: whom the node that runs knows, asked through its socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::outline::clean;
use super::{print, socket};
use crate::admin::client::ask;
use crate::admin::{Answer, Question};
use tidings_node::view::View;

/// Stands for an organization that is not known.
pub(super) const UNKNOWN: &str = "(organization not known yet)";

/// Digits of a PKI-ID that are shown, as in logs.
pub(super) const PKI_DIGITS: usize = 8;

/// Show the members that the running node knows, by organization.
///
/// Of each member: where this node reaches it, how long ago it was heard, and for every channel the
/// blocks that it says it has. Members that fell silent are left out, as are channels of others
/// that this node is not in. The node is found by its configuration, or by --socket.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings peers
  tidings peers --config net/nodes/peer0.org1.demo
  tidings peers --json | jq '.[] | select(.organization == \"Org2MSP\")'")]
pub(crate) struct Arguments {
    /// The core.yaml of the node, or its folder [default: as for `tidings node start`].
    #[arg(long, value_name = "FILE_OR_DIR")]
    config: Option<PathBuf>,
    /// The node's socket [default: admin.sock in peer.fileSystemPath].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print an array of objects, one for each peer.
    #[arg(long)]
    json: bool,
}

/// A peer as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Peer {
    pub(super) organization: Option<String>,
    /// Whether it is the node itself.
    pub(super) this_node: bool,
    pub(super) endpoint: String,
    pub(super) peer: String,
    pub(super) heard_ms: Option<u64>,
    /// Blocks by channel.
    pub(super) heights: BTreeMap<String, u64>,
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let socket = socket(self.socket, self.config.as_deref())?;
        let state = match ask(&socket, &Question::State {})? {
            Answer::State(state) => state,
            answer => bail!("the node answered something else: {answer:?}"),
        };
        let peers = peers(&state);
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&peers)?));
        }
        print(&table(&peers))
    }
}

/// The node itself and its members, by organization, the own one first.
pub(super) fn peers(state: &View) -> Vec<Peer> {
    let heights = |peer: &str| {
        let of = state.channels.iter().filter_map(|channel| {
            let height = channel.heights.get(peer)?;
            Some((channel.channel.clone(), *height))
        });
        of.collect()
    };
    let own = state.channels.iter();
    let own = own.map(|channel| (channel.channel.clone(), channel.height));
    let this = Peer {
        organization: Some(state.organization.clone()),
        this_node: true,
        endpoint: state.endpoint.clone(),
        peer: state.peer.clone(),
        heard_ms: None,
        heights: own.collect(),
    };
    let mut others: Vec<_> = state
        .members
        .iter()
        .map(|member| Peer {
            organization: member.organization.clone(),
            this_node: false,
            endpoint: member.endpoint.clone(),
            peer: member.peer.clone(),
            heard_ms: member.heard_ms,
            heights: heights(&member.peer),
        })
        .collect();
    let key = |peer: &Peer| {
        let own = peer.organization.as_ref() == Some(&state.organization);
        (!own, peer.clone())
    };
    others.sort_by_cached_key(key);
    [this].into_iter().chain(others).collect()
}

fn table(peers: &[Peer]) -> String {
    let mut text = String::new();
    let rows: Vec<[String; 4]> = peers.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2));
    let mut organization = None;
    for (peer, [name, endpoint, heard, heights]) in peers.iter().zip(&rows) {
        let of = peer.organization.as_deref().unwrap_or(UNKNOWN);
        if organization != Some(of) {
            text.push_str(&clean(of));
            text.push('\n');
            organization = Some(of);
        }
        let line = format!("  {name:first$}  {endpoint:second$}  {heard:>third$}  {heights}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(peer: &Peer) -> [String; 4] {
    let heights = peer.heights.iter();
    let heights: Vec<_> = heights
        .map(|(channel, height)| format!("{} {height}", clean(channel)))
        .collect();
    let heights = if heights.is_empty() {
        "in no channel of this node".to_owned()
    } else {
        heights.join(", ")
    };
    let endpoint = if peer.endpoint.is_empty() {
        "(no endpoint)".to_owned()
    } else {
        clean(&peer.endpoint)
    };
    let heard = match peer.heard_ms {
        _ if peer.this_node => "this node".to_owned(),
        None => "-".to_owned(),
        Some(ms) => ago(ms),
    };
    let name = peer.peer.chars().take(PKI_DIGITS).collect();
    [name, endpoint, heard, heights]
}

pub(super) fn ago(ms: u64) -> String {
    match ms / 1000 {
        0..60 => format!("{}.{} s ago", ms / 1000, ms % 1000 / 100),
        seconds => format!("{} min ago", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_node::view::{Channel, Member};

    fn member(peer: &str, org: Option<&str>, heard_ms: Option<u64>) -> Member {
        Member {
            peer: peer.repeat(32),
            organization: org.map(str::to_owned),
            endpoint: format!("{peer}.example:7051"),
            heard_ms,
            ..Member::default()
        }
    }

    #[test]
    fn members_stand_below_their_organizations_ours_first() {
        let state = View {
            peer: "00".repeat(32),
            organization: "Org2MSP".into(),
            endpoint: "peer0:7051".into(),
            members: vec![
                member("aa", Some("Org1MSP"), Some(300)),
                member("bb", None, None),
                member("cc", Some("Org2MSP"), Some(125_000)),
            ],
            channels: vec![Channel {
                channel: "ch".into(),
                height: 12,
                leads: false,
                elected: None,
                missing: None,
                heights: [("aa".repeat(32), 11), ("cc".repeat(32), 1)].into(),
                ..Channel::default()
            }],
            ..View::default()
        };
        let expected = "\
Org2MSP
  00000000  peer0:7051       this node  ch 12
  cccccccc  cc.example:7051  2 min ago  ch 1
(organization not known yet)
  bbbbbbbb  bb.example:7051          -  in no channel of this node
Org1MSP
  aaaaaaaa  aa.example:7051  0.3 s ago  ch 11
";
        assert_eq!(table(&peers(&state)), expected);
    }

    #[test]
    fn a_member_cannot_steer_the_terminal() {
        let mut state = View::default();
        let mut odd = member("aa", Some("Org\u{1b}[2J"), None);
        odd.endpoint = "a\nb:1".into();
        state.members.push(odd);
        let table = table(&peers(&state));
        assert!(
            !table.contains('\u{1b}') && table.contains("a\\nb:1"),
            "{table}"
        );
    }
}
