//! Stripes in trouble, and what is required of them there.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;
use tidings_sim::study::{Crowd, Net, Outcome, PlainDelivery, Scenario, Stripe, Way};

use crate::{in_parallel, ms};

/// Something that must hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claim {
    what: String,
    value: f64,
    at_most: f64,
    met: bool,
}

/// One network in trouble, and what came of it.
#[derive(Serialize)]
pub(crate) struct Trial {
    name: String,
    scenario: Scenario,
    stripe: Stripe,
    outcome: Outcome,
    claims: Vec<Claim>,
}

/// A trial before it runs: limits that are set in figures, or by the network without trouble.
struct Plan {
    name: String,
    scenario: Scenario,
    stripe: Stripe,
    limits: Vec<Limit>,
}

/// What is required.
enum Limit {
    /// Milliseconds until all have a block, in the median block.
    Median(f64),
    /// The same in the mean block.
    Mean(f64),
    /// The same in the worst block.
    Worst(f64),
    /// Bytes, in blocks.
    Bytes(f64),
    /// Times the time until half have it without trouble.
    HalfTimesCalm(f64),
    /// Times the time until all have it without trouble.
    AllTimesCalm(f64),
    /// Blocks times nodes that did not get it.
    Never(f64),
}

impl Claim {
    pub(crate) fn at_most(what: String, value: f64, limit: f64) -> Self {
        Self {
            what,
            value,
            at_most: limit,
            met: value <= limit,
        }
    }
}

/// Runs them all.
pub(crate) fn run(seed: u64) -> Vec<Trial> {
    let plans = plans(seed);
    let calm: Vec<(usize, Net)> = vec![(100, Net::Lan), (100, Net::Wan)];
    let calm_outcomes = in_parallel(&calm, |(nodes, net)| {
        Scenario::new(*nodes, *net)
            .seed(seed)
            .run(Way::Stripe(Stripe::default()))
    });
    let outcomes = in_parallel(&plans, |plan| plan.scenario.run(Way::Stripe(plan.stripe)));
    plans
        .into_iter()
        .zip(outcomes)
        .map(|(plan, outcome)| {
            let same = |it: &(usize, Net)| *it == (plan.scenario.nodes, plan.scenario.net);
            let calm = calm
                .iter()
                .position(same)
                .map(|index| &calm_outcomes[index]);
            let limits = plan.limits.iter();
            let claims: Vec<_> = limits
                .filter_map(|limit| limit.claim(&outcome, calm))
                .collect();
            Trial {
                name: plan.name,
                scenario: plan.scenario,
                stripe: plan.stripe,
                outcome,
                claims,
            }
        })
        .collect()
}

impl Limit {
    fn claim(&self, it: &Outcome, calm: Option<&Outcome>) -> Option<Claim> {
        let (what, value, limit) = match self {
            Self::Median(limit) => ("time to all, median, ms", ms(it.to_all_median), *limit),
            Self::Mean(limit) => ("time to all, ms", ms(it.to_all), *limit),
            Self::Worst(limit) => ("time to all, worst block, ms", ms(it.to_all_worst), *limit),
            Self::Bytes(limit) => ("bytes", it.bytes, *limit),
            Self::Never(limit) => ("never arrived", it.never as f64, *limit),
            Self::HalfTimesCalm(limit) => {
                let value = ms(it.to_half) / ms(calm?.to_half);
                ("time to half / without trouble", value, *limit)
            }
            Self::AllTimesCalm(limit) => {
                let value = ms(it.to_all) / ms(calm?.to_all);
                ("time to all / without trouble", value, *limit)
            }
        };
        Some(Claim::at_most(what.to_owned(), value, limit))
    }
}

fn plans(seed: u64) -> Vec<Plan> {
    let scenario = |nodes, net| Scenario::new(nodes, net).seed(seed);
    let mut plans = Vec::new();
    let mut add = |name: &str, scenario: Scenario, stripe: Stripe, limits: Vec<Limit>| {
        plans.push(Plan {
            name: name.to_owned(),
            scenario,
            stripe,
            limits,
        });
    };
    let plain = Stripe::default();
    let parity = Stripe { parity: 1, ..plain };
    let lossy = |net| Scenario {
        loss: 0.01,
        ..scenario(100, net)
    };
    let lan = || scenario(100, Net::Lan);
    let tenth = Crowd::of(0.1);
    add(
        "loss 1 %, LAN",
        lossy(Net::Lan),
        plain,
        vec![Limit::Median(18.0), Limit::Bytes(1.05), Limit::Never(0.0)],
    );
    add(
        "loss 1 %, WAN",
        lossy(Net::Wan),
        plain,
        vec![Limit::Median(600.0), Limit::Bytes(1.05), Limit::Never(0.0)],
    );
    add(
        "loss 1 %, LAN, parity",
        lossy(Net::Lan),
        parity,
        vec![Limit::Median(11.0), Limit::Bytes(1.17), Limit::Never(0.0)],
    );
    add(
        "loss 1 %, WAN, parity",
        lossy(Net::Wan),
        parity,
        vec![Limit::Median(300.0), Limit::Bytes(1.17), Limit::Never(0.0)],
    );
    add(
        "crash 10 %, LAN",
        Scenario {
            crashed: tenth,
            ..lan()
        },
        plain,
        vec![Limit::Median(9.0), Limit::Worst(30.0), Limit::Never(0.0)],
    );
    add(
        "crash 10 %, N = 1000",
        Scenario {
            crashed: tenth,
            ..scenario(1000, Net::Lan)
        },
        plain,
        vec![Limit::Median(25.0), Limit::Never(0.0)],
    );
    add(
        "slow 10 %",
        Scenario {
            slow: tenth,
            ..lan()
        },
        plain,
        vec![
            Limit::HalfTimesCalm(1.1),
            Limit::Bytes(1.03),
            Limit::Never(0.0),
        ],
    );
    add(
        "overload 10 %",
        Scenario {
            thin: tenth,
            ..lan()
        },
        plain,
        vec![Limit::HalfTimesCalm(1.2), Limit::Bytes(1.4)],
    );
    add(
        "100 Mbit/s, 50 blocks/s",
        Scenario {
            bits_per_second: 100_000_000,
            interval: Duration::from_millis(20),
            ..lan()
        },
        plain,
        vec![Limit::Mean(60.0), Limit::Never(0.0)],
    );
    for stripe in 0..8 {
        let name = format!("stripe {stripe} of 8 suppressed");
        add(
            &name,
            lan(),
            Stripe {
                suppressed: Some(stripe),
                ..plain
            },
            vec![Limit::Never(0.0)],
        );
    }
    for (how, delivery) in [
        ("quiet", PlainDelivery::Quiet),
        ("push", PlainDelivery::Push),
    ] {
        for percent in [10, 30, 50, 80] {
            let name = format!("{percent} % plain peers, {how}");
            let share = Crowd::of(f64::from(percent) / 100.0);
            let mixed = Stripe {
                plain: share,
                delivery,
                ..plain
            };
            add(
                &name,
                lan(),
                mixed,
                vec![Limit::AllTimesCalm(2.5), Limit::Never(0.0)],
            );
        }
    }
    add(
        "half of the views outdated",
        lan(),
        Stripe {
            outdated: Crowd::of(0.5),
            ..plain
        },
        vec![Limit::Never(0.0)],
    );
    plans
}

/// A table of trials, and one of what was required.
pub(crate) fn show(trials: &[Trial]) -> String {
    if trials.is_empty() {
        return String::new();
    }
    let mut text = "| trial | time to all ms: mean, median, worst | to half ms | bytes | root | busiest | required |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for Trial {
        name,
        outcome: it,
        claims,
        ..
    } in trials
    {
        let claims: Vec<_> = claims.iter().map(said).collect();
        let _ = writeln!(
            text,
            "| {name} | {:.1}, {:.1}, {:.1} | {:.2} | {:.3} | {:.2} | {:.2} | {} |",
            ms(it.to_all),
            ms(it.to_all_median),
            ms(it.to_all_worst),
            ms(it.to_half),
            it.bytes,
            it.root,
            it.busiest,
            claims.join("; "),
        );
    }
    text
}

/// What was required of a table, one line each.
pub(crate) fn show_claims(claims: &[Claim]) -> String {
    let mut text = "| required | found | at most | |\n|---|---|---|---|\n".to_owned();
    for Claim {
        what,
        value,
        at_most,
        met,
    } in claims
    {
        let met = if *met { "met" } else { "NOT MET" };
        let _ = writeln!(text, "| {what} | {value:.4} | {at_most} | {met} |");
    }
    text
}

fn said(
    Claim {
        what,
        value,
        at_most,
        met,
    }: &Claim,
) -> String {
    let met = if *met { "met" } else { "NOT MET" };
    format!("{what} {value:.2}, at most {at_most}: {met}")
}
