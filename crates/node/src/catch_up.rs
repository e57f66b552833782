//! How the filling of a large gap shows in the log.

use tidings_gossip::{
    id::ChannelId,
    transfer::{Progress, Stage},
};

/// Sources named in one line; those that brought most.
const SOURCES_SHOWN_MAX: usize = 8;

/// One line for an operator.
pub(crate) fn note(channel: &ChannelId, stage: Stage, progress: &Progress) {
    let line = line(stage, progress);
    tracing::info!(target: "gossip.state", %channel, height = progress.height, "{line}");
}

pub(crate) fn line(stage: Stage, progress: &Progress) -> String {
    let Progress {
        from, height, goal, ..
    } = progress;
    let (secs, rate) = (progress.elapsed.as_secs_f64(), progress.rate());
    let sources = sources(progress);
    match stage {
        Stage::Began => format!("catching up from {height} to {goal} by state transfer"),
        Stage::UnderWay => {
            format!("catching up: at {height} of {goal}, {rate:.0} blocks/s, from {sources}")
        }
        Stage::CaughtUp => format!(
            "caught up from {from} to {height} in {secs:.1} s, {rate:.0} blocks/s, from {sources}"
        ),
        Stage::Stopped => format!(
            "stopped catching up at {height} of {goal} after {secs:.1} s: nobody gives what it \
             has promised, or everybody is gone; asked were {sources}"
        ),
    }
}

fn sources(progress: &Progress) -> String {
    let mut shares: Vec<_> = progress.sources.iter().collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.blocks));
    let total = shares.len();
    let shown = shares.iter().take(SOURCES_SHOWN_MAX);
    let shown: Vec<_> = shown
        .map(|share| format!("{} {}", share.peer, share.blocks))
        .collect();
    let noun = if total == 1 { "source" } else { "sources" };
    let more = if total > SOURCES_SHOWN_MAX {
        ", …"
    } else {
        ""
    };
    format!("{total} {noun} (blocks: {}{more})", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_gossip::{id::PkiId, transfer::Share};

    use super::*;

    fn progress(sources: u8) -> Progress {
        let share = |n| Share {
            peer: PkiId::new([n; 32]),
            blocks: u64::from(n) * 10,
            window: 2,
            open: 0,
        };
        Progress {
            from: 100,
            height: 300,
            goal: 500,
            elapsed: Duration::from_millis(2500),
            sources: (1..=sources).map(share).collect(),
        }
    }

    #[test]
    fn every_stage_has_its_line() {
        let progress = progress(2);
        for (stage, expected) in [
            (
                Stage::Began,
                "catching up from 300 to 500 by state transfer",
            ),
            (
                Stage::UnderWay,
                "catching up: at 300 of 500, 80 blocks/s, from 2 sources \
                 (blocks: 02020202 20, 01010101 10)",
            ),
            (
                Stage::CaughtUp,
                "caught up from 100 to 300 in 2.5 s, 80 blocks/s, from 2 sources \
                 (blocks: 02020202 20, 01010101 10)",
            ),
            (
                Stage::Stopped,
                "stopped catching up at 300 of 500 after 2.5 s: nobody gives what it has promised, \
                 or everybody is gone; asked were 2 sources (blocks: 02020202 20, 01010101 10)",
            ),
        ] {
            assert_eq!(line(stage, &progress), expected);
        }
    }

    #[test]
    fn a_line_names_those_that_brought_most() {
        let one = "1 source (blocks: 01010101 10)";
        assert_eq!(sources(&progress(1)), one);
        let many = sources(&progress(9));
        assert!(
            many.starts_with("9 sources (blocks: 09090909 90, "),
            "{many}"
        );
        assert!(many.ends_with("02020202 20, …)"), "{many}");
    }
}
