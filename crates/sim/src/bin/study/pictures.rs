//! Which pictures there are, and what is on them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use tidings_sim::study::{Fanout, Net, Outcome, Scenario, Stripe, Way, floor};

use crate::{
    in_parallel, ms,
    plot::{Axis, Plot, Series},
};

const NODES: [usize; 7] = [10, 20, 50, 100, 200, 500, 1000];

const NETS: [Net; 2] = [Net::Lan, Net::Wan];

/// Of the network whose distribution is drawn.
const CROWD: usize = 1000;

fn ways() -> [(&'static str, Way); 4] {
    [
        ("(a) Fabric", Way::Fabric),
        ("(b) enhanced, 4", Way::Enhanced(Fanout::Four)),
        ("(b) enhanced, 2", Way::Enhanced(Fanout::Two)),
        ("(g) STRIPE", Way::Stripe(Stripe::default())),
    ]
}

/// One line: a way in a kind of network, by number of nodes.
struct Line {
    name: &'static str,
    net: Net,
    outcomes: Vec<(usize, Outcome)>,
}

/// Runs what the pictures show and writes them into this folder.
pub(crate) fn write(folder: &Path, seed: u64) -> Result<String> {
    let lines = lines(seed);
    let mut pictures = Vec::new();
    for net in NETS {
        let small = net.to_string().to_lowercase();
        pictures.push((format!("time-{small}.svg"), times(&lines, net, seed)));
        pictures.push((format!("cdf-{small}.svg"), distribution(&lines, net)));
    }
    pictures.push(("bytes.svg".to_owned(), bytes(&lines)));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut told = String::new();
    for (name, plot) in pictures {
        let path = folder.join(name);
        fs::write(&path, plot.svg()).with_context(|| format!("cannot write {}", path.display()))?;
        told.push_str(&format!("{}\n", path.display()));
    }
    Ok(told)
}

fn scenario(nodes: usize, net: Net, seed: u64) -> Scenario {
    let scenario = Scenario::new(nodes, net).seed(seed);
    // A picture needs no steadier mean.
    let blocks = scenario.blocks.min(100);
    scenario.blocks(blocks)
}

fn lines(seed: u64) -> Vec<Line> {
    let mut jobs = Vec::new();
    for net in NETS {
        for (name, way) in ways() {
            jobs.extend(NODES.map(|nodes| (name, way, net, nodes)));
        }
    }
    let outcomes = in_parallel(&jobs, |(_, way, net, nodes)| {
        scenario(*nodes, *net, seed).run(*way)
    });
    let mut lines: Vec<Line> = Vec::new();
    for ((name, _, net, nodes), outcome) in jobs.into_iter().zip(outcomes) {
        match lines.last_mut() {
            Some(line) if line.name == name && line.net == net => {
                line.outcomes.push((nodes, outcome))
            }
            _ => lines.push(Line {
                name,
                net,
                outcomes: vec![(nodes, outcome)],
            }),
        }
    }
    lines
}

fn by_nodes() -> Axis {
    let ticks = NODES.map(|nodes| (nodes as f64, nodes.to_string()));
    let ticks: Vec<_> = ticks
        .iter()
        .map(|(at, label)| (*at, label.as_str()))
        .collect();
    Axis::logarithmic("nodes", 10.0, 1000.0, &ticks)
}

fn by_time(name: &'static str, low: f64) -> Axis {
    let all = [
        (1.0, "1 ms"),
        (10.0, "10 ms"),
        (100.0, "100 ms"),
        (1000.0, "1 s"),
        (10_000.0, "10 s"),
    ];
    let ticks: Vec<_> = all.into_iter().filter(|(at, _)| *at >= low).collect();
    Axis::logarithmic(name, low, 10_000.0, &ticks)
}

fn times(lines: &[Line], net: Net, seed: u64) -> Plot {
    let mut series: Vec<Series> = lines
        .iter()
        .filter(|line| line.net == net)
        .map(|line| by_number(line, |outcome| ms(outcome.to_all)))
        .collect();
    series.push(Series {
        name: "physical floor".to_owned(),
        points: NODES
            .map(|nodes| (nodes as f64, ms(floor(&scenario(nodes, net, seed)))))
            .into(),
        has_dots: false,
    });
    Plot {
        title: format!("Until every node has a block of 160 KB, {net}"),
        x: by_nodes(),
        y: by_time("", if net == Net::Lan { 1.0 } else { 10.0 }),
        series,
    }
}

fn bytes(lines: &[Line]) -> Plot {
    Plot {
        title: "Bytes sent, in blocks for each node that needs one; 160 KB, LAN".to_owned(),
        x: by_nodes(),
        y: Axis::linear("", 3.5, 0.5),
        series: lines
            .iter()
            .filter(|line| line.net == Net::Lan)
            .map(|line| by_number(line, |outcome| outcome.bytes))
            .collect(),
    }
}

fn distribution(lines: &[Line], net: Net) -> Plot {
    let series = lines
        .iter()
        .filter(|line| line.net == net)
        .filter_map(|line| {
            let (_, outcome) = line.outcomes.iter().find(|(nodes, _)| *nodes == CROWD)?;
            let parts = outcome.distribution.len().max(1) as f64;
            let at = |(index, time)| (ms(time), (index + 1) as f64 * 100.0 / parts);
            let times = outcome.distribution.iter().copied();
            Some(Series {
                name: line.name.to_owned(),
                points: times.enumerate().map(at).collect(),
                has_dots: false,
            })
        });
    Plot {
        title: format!(
            "Nodes that have a block of 160 KB after some time, in %; N = {CROWD}, {net}"
        ),
        x: by_time("after its injection", 1.0),
        y: Axis::linear("", 100.0, 20.0),
        series: series.collect(),
    }
}

fn by_number(line: &Line, value: impl Fn(&Outcome) -> f64) -> Series {
    let points = line
        .outcomes
        .iter()
        .map(|(nodes, outcome)| (*nodes as f64, value(outcome)));
    Series {
        name: line.name.to_owned(),
        points: points.collect(),
        has_dots: true,
    }
}
