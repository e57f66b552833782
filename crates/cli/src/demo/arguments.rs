//! What `tidings demo` can be told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use super::source::Rate;

/// Organizations; the picture has room for so many.
pub(super) const ORGS_MAX: u16 = 8;

/// Peers of an organization; each costs some threads, sockets and megabytes.
pub(super) const PEERS_MAX: u16 = 16;

/// Blocks of a run that must end by itself, when nobody says how many.
const BLOCKS_OF_EXIT: u64 = 100;

/// Blocks a second: one in a quarter of an hour, and more than any disk takes.
const RATES: RangeInclusive<f64> = 0.001..=100_000.0;

/// The page of the demo is looked for here first.
const PAGE_PORT: u16 = 8710;

/// Run a whole network on this machine and watch blocks travel through it.
///
/// Makes keys and certificates as cryptogen lays them out, a channel genesis block, a development
/// orderer that speaks Fabric's AtomicBroadcast and signs its blocks, and full nodes with mutual
/// TLS, each with its own port and data folder. A client submits transactions; the terminal and a
/// web page on 127.0.0.1 show heights, members, leaders, bytes and how long blocks take from the
/// orderer's cut to each node's commit. Without --dir everything is made in a temporary folder
/// and removed at the end.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings demo                                   six nodes of two organizations, until Ctrl-C
  tidings demo --orgs 4 --peers 5 --rate 20
  tidings demo --blocks 500 --block-bytes 100000 --rate 50 --exit
  tidings demo --kill-one --blocks 300 --exit    kill a node on the way and watch it catch up
  tidings demo --recorded ../shared/fixtures --exit --json | jq '.nodes[].height'

Logs of the nodes are written to standard error if FABRIC_LOGGING_SPEC says which, for example
FABRIC_LOGGING_SPEC=warning:gossip.state=debug.

With --exit the exit status is 0 only if every node holds the same chain, verified from disk.")]
pub(crate) struct Arguments {
    /// Organizations with peers.
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "recorded",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(ORGS_MAX)))]
    pub(crate) orgs: u16,
    /// Peers of each organization; of a recording, at most so many of each.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PEERS_MAX)))]
    pub(crate) peers: u16,
    /// Blocks to order after the genesis block; without --exit: until Ctrl-C, with it: 100.
    #[arg(long, value_name = "N", conflicts_with = "recorded",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) blocks: Option<u64>,
    /// Size of a block, roughly; small blocks are one transaction of about 6 kB.
    #[arg(long, value_name = "BYTES", default_value_t = 20_000, conflicts_with = "recorded",
          value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    pub(crate) block_bytes: u32,
    /// Blocks a second, 0.001 to 100000, or `max`: as fast as the orderer can.
    #[arg(long, value_name = "R", default_value = "5", allow_negative_numbers = true,
          value_parser = rate)]
    pub(crate) rate: Rate,
    /// An empty or new folder for keys, genesis block and ledgers, which is kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Replay a recording: a folder with genesis.block, crypto/ and blocks/ordered_NN.pb.
    #[arg(long, value_name = "DIR")]
    pub(crate) recorded: Option<PathBuf>,
    /// Kill a node at a third of the blocks and start it again on its folder at two thirds.
    #[arg(long)]
    pub(crate) kill_one: bool,
    /// End when every node holds every block, print a summary, and tell by the exit status.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Print the summary as one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the web page listens. Elsewhere than on this machine it is for containers, whose port
    /// is published on 127.0.0.1: it answers only those who call it so, or localhost.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) page_address: IpAddr,
    /// Port of the web page; 0 takes any [default: 8710, or any if that is taken].
    #[arg(long, value_name = "PORT")]
    pub(crate) page_port: Option<u16>,
    /// Serve no web page.
    #[arg(long, conflicts_with_all = ["page_port", "page_address"])]
    pub(crate) no_page: bool,
}

/// A rate as it is written.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    // Neither infinity nor what is no number lies in a range.
    let rate = text.parse().ok().filter(|rate| RATES.contains(rate));
    rate.map(Rate::PerSecond).ok_or_else(|| {
        let (least, most) = (RATES.start(), RATES.end());
        format!("give blocks a second from {least} to {most}, or `max`")
    })
}

impl Arguments {
    /// Blocks to order, if there is an end.
    pub(crate) fn blocks(&self) -> Option<u64> {
        self.blocks.or(if self.exit {
            Some(BLOCKS_OF_EXIT)
        } else {
            None
        })
    }

    /// Where the page listens, and whether it must be that port.
    pub(crate) fn page(&self) -> Option<(SocketAddr, bool)> {
        let (port, exactly) = self
            .page_port
            .map_or((PAGE_PORT, false), |port| (port, true));
        let address = SocketAddr::new(self.page_address, port);
        (!self.no_page).then_some((address, exactly))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let command = Arguments::augment_args(Command::new("demo"));
        let words = std::iter::once("demo").chain(line.split_whitespace());
        Arguments::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn an_end_is_there_when_it_is_asked_for() {
        assert_eq!(parse("").unwrap().blocks(), None);
        assert_eq!(parse("--exit").unwrap().blocks(), Some(BLOCKS_OF_EXIT));
        assert_eq!(parse("--exit --blocks 7").unwrap().blocks(), Some(7));
    }

    #[test]
    fn the_page_gives_way_only_from_its_default() {
        let page = |line| parse(line).unwrap().page();
        let at = |ip: [u8; 4], port| SocketAddr::from((ip, port));
        assert_eq!(page(""), Some((at([127, 0, 0, 1], PAGE_PORT), false)));
        let everywhere = "--page-port 99 --page-address 0.0.0.0";
        assert_eq!(page(everywhere), Some((at([0; 4], 99), true)));
        assert_eq!(parse("--no-page").unwrap().page(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--orgs 0",
            "--orgs 9",
            "--peers 17",
            "--blocks 0",
            "--block-bytes 0",
            "--recorded x --orgs 2",
            "--no-page --page-port 1",
            "--no-page --page-address ::",
            "--page-address here",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_its_range_or_as_fast_as_can_be() {
        for (text, rate) in [
            ("0.001", Rate::PerSecond(0.001)),
            ("100000", Rate::PerSecond(100_000.0)),
            ("max", Rate::Max),
        ] {
            assert_eq!(parse(&format!("--rate {text}")).unwrap().rate, rate);
        }
        for text in ["-1", "0", "-0", "0.0009", "100000.1", "NaN", "inf", "fast"] {
            for line in [format!("--rate {text}"), format!("--rate={text}")] {
                let error = parse(&line).unwrap_err();
                assert_eq!(error.exit_code(), 2);
                let said = error.to_string();
                assert!(
                    said.contains("--rate") && said.contains("0.001 to 100000"),
                    "{said}"
                );
            }
        }
    }
}
