//! The three ways without trouble, beside what their author found and what is required.

use std::fmt;

use serde::Serialize;
use tidings_sim::study::{Fanout, Net, Outcome, Scenario, Stripe, Way, floor};

use crate::{in_parallel, ms, trial::Claim};

/// One network and three ways.
#[derive(Serialize)]
pub(crate) struct Row {
    scenario: Scenario,
    floor_ms: f64,
    fabric: Outcome,
    enhanced: Outcome,
    stripe: Outcome,
    /// What the design's own simulator found, where it was asked: times in ms, bytes in blocks.
    designed: Option<Designed>,
}

/// Figures of stripes, Fabric's gossip and enhanced gossip, in this order.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Designed {
    times_ms: [f64; 3],
    bytes: [f64; 3],
}

/// All of them.
#[derive(Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    claims: Vec<Claim>,
}

/// What is required of stripes at 160 KB, in the order of [`Row::claims`].
struct Limits([f64; 8]);

/// Runs all blocks sizes and networks with so many nodes each.
pub(crate) fn run(nodes: &[usize], seed: u64) -> Table {
    let scenarios: Vec<Scenario> = nodes
        .iter()
        .flat_map(|nodes| {
            let kinds = [
                (16, Net::Lan),
                (160, Net::Lan),
                (1024, Net::Lan),
                (160, Net::Wan),
            ];
            kinds.map(|(kb, net)| Scenario::new(*nodes, net).size(kb * 1024).seed(seed))
        })
        .collect();
    let ways = [
        Way::Fabric,
        Way::Enhanced(Fanout::Four),
        Way::Stripe(Stripe::default()),
    ];
    let jobs: Vec<_> = scenarios
        .iter()
        .flat_map(|scenario| ways.map(|way| (scenario, way)))
        .collect();
    let mut outcomes = in_parallel(&jobs, |(scenario, way)| scenario.run(*way)).into_iter();
    let mut rows = Vec::new();
    for scenario in &scenarios {
        if let (Some(fabric), Some(enhanced), Some(stripe)) =
            (outcomes.next(), outcomes.next(), outcomes.next())
        {
            rows.push(Row {
                floor_ms: ms(floor(scenario)),
                designed: designed(scenario),
                scenario: scenario.clone(),
                fabric,
                enhanced,
                stripe,
            });
        }
    }
    let claims = rows.iter().flat_map(Row::claims).collect();
    Table { rows, claims }
}

impl Row {
    fn name(&self) -> String {
        let Scenario {
            nodes, size, net, ..
        } = &self.scenario;
        format!("N = {nodes}, {} KB, {net}", size / 1024)
    }

    fn claims(&self) -> Vec<Claim> {
        let mut claims = self.as_designed();
        let Some(limits) = Limits::of(&self.scenario) else {
            return claims;
        };
        let to_all = ms(self.stripe.to_all);
        let values = [
            ("time to all / (a)", to_all / ms(self.fabric.to_all)),
            ("time to all / (b)", to_all / ms(self.enhanced.to_all)),
            ("bytes / (a)", self.stripe.bytes / self.fabric.bytes),
            ("bytes / (b)", self.stripe.bytes / self.enhanced.bytes),
            ("time to all / floor", to_all / self.floor_ms),
            ("bytes", self.stripe.bytes),
            ("root's upload in blocks", self.stripe.root),
            ("busiest upload in blocks", self.stripe.busiest),
        ];
        for ((what, value), limit) in values.into_iter().zip(limits.0) {
            claims.push(Claim::at_most(
                format!("{}: {what}", self.name()),
                value,
                limit,
            ));
        }
        claims
    }

    /// The acceptance test of the design: each figure of its table within 15 %.
    fn as_designed(&self) -> Vec<Claim> {
        let Some(designed) = self.designed else {
            return Vec::new();
        };
        let found = [&self.stripe, &self.fabric, &self.enhanced];
        let mut off: f64 = 0.0;
        for (index, outcome) in found.into_iter().enumerate() {
            // A better stripe is no fault.
            let worse_only = |share: f64| if index == 0 { share } else { share.abs() };
            off = off.max(worse_only(
                ms(outcome.to_all) / designed.times_ms[index] - 1.0,
            ));
            off = off.max(worse_only(outcome.bytes / designed.bytes[index] - 1.0));
        }
        let what = format!("{}: off the design's own figures", self.name());
        vec![Claim::at_most(what, off, 0.15)]
    }
}

impl Limits {
    fn of(scenario: &Scenario) -> Option<Self> {
        match (scenario.nodes, scenario.size / 1024, scenario.net) {
            (100, 160, Net::Lan) => Some(Self([0.005, 0.45, 0.38, 1.00, 2.2, 1.03, 1.1, 1.2])),
            (100, 160, Net::Wan) => Some(Self([0.08, 0.50, 0.38, 1.00, 2.8, 1.03, 1.4, 2.5])),
            (1000, 160, Net::Lan) => Some(Self([0.005, 0.45, 0.38, 1.02, 2.5, 1.03, 1.1, 1.5])),
            (1000, 160, Net::Wan) => Some(Self([0.09, 0.55, 0.38, 1.02, 4.0, 1.03, 1.4, 3.0])),
            _ => None,
        }
    }
}

fn designed(scenario: &Scenario) -> Option<Designed> {
    let (times_ms, bytes) = match (scenario.nodes, scenario.size / 1024, scenario.net) {
        (100, 16, Net::Lan) => ([5.1, 4249.0, 9.4], [1.05, 2.92, 1.16]),
        (100, 160, Net::Lan) => ([7.5, 4310.0, 23.1], [1.01, 2.89, 1.08]),
        (100, 1024, Net::Lan) => ([23.3, 4324.0, 116.0], [1.00, 2.89, 1.11]),
        (100, 160, Net::Wan) => ([233.0, 4560.0, 641.0], [1.01, 2.90, 1.04]),
        (1000, 16, Net::Lan) => ([6.7, 4962.0, 13.0], [1.05, 2.91, 1.16]),
        (1000, 160, Net::Lan) => ([10.0, 4983.0, 33.7], [1.01, 2.89, 1.03]),
        (1000, 1024, Net::Lan) => ([26.2, 5045.0, 175.0], [1.00, 2.88, 1.05]),
        (1000, 160, Net::Wan) => ([333.0, 5372.0, 864.0], [1.01, 2.88, 1.02]),
        _ => return None,
    };
    Some(Designed { times_ms, bytes })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| N | block | net | floor ms | time to all ms: g, (a), (b) | g/(a) | g/(b) | g/floor | \
             time to half ms: g, (a), (b) | bytes: g, (a), (b) | g/(a) | g/(b) | root | busiest |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.rows {
            let Row {
                fabric: a,
                enhanced: b,
                stripe: g,
                ..
            } = row;
            writeln!(
                f,
                "| {} | {} KB | {} | {:.2} | {:.2}, {:.0}, {:.1} | {:.4} | {:.2} | {:.2} | \
                 {:.2}, {:.1}, {:.1} | {:.3}, {:.2}, {:.3} | {:.2} | {:.2} | {:.2} | {:.2} |",
                row.scenario.nodes,
                row.scenario.size / 1024,
                row.scenario.net,
                row.floor_ms,
                ms(g.to_all),
                ms(a.to_all),
                ms(b.to_all),
                ms(g.to_all) / ms(a.to_all),
                ms(g.to_all) / ms(b.to_all),
                ms(g.to_all) / row.floor_ms,
                ms(g.to_half),
                ms(a.to_half),
                ms(b.to_half),
                g.bytes,
                a.bytes,
                b.bytes,
                g.bytes / a.bytes,
                g.bytes / b.bytes,
                g.root,
                g.busiest,
            )?;
        }
        writeln!(f, "\n{}", crate::trial::show_claims(&self.claims))
    }
}
