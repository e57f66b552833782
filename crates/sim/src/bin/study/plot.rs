//! Line plots as SVG, without anybody's help.
//!
//! Promises the same file for the same figures. Knows two kinds of axis and nothing of what is
//! drawn.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 384.0;

/// Names beside the ends of lines keep this distance.
const NAME_DISTANCE: f64 = 17.0;

/// Told apart also by those who do not see all colours.
const COLOURS: [&str; 6] = [
    "#c0392b", "#d68910", "#1f618d", "#7d3c98", "#117a65", "#566573",
];

/// How far an axis goes, and how.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) is_logarithmic: bool,
    /// Where it is marked, and how.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// One line.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) has_dots: bool,
}

/// One picture.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

impl Axis {
    /// Equal steps from zero.
    pub(crate) fn linear(name: &'static str, high: f64, step: f64) -> Self {
        let values = std::iter::successors(Some(0.0), |value| Some(value + step));
        let values = values.take_while(|value| *value <= high + step / 1000.0);
        Self {
            name,
            low: 0.0,
            high,
            is_logarithmic: false,
            ticks: values.map(|value| (value, short(value))).collect(),
        }
    }

    /// Marked where it is said.
    pub(crate) fn logarithmic(name: &'static str, low: f64, high: f64, at: &[(f64, &str)]) -> Self {
        let ticks = at
            .iter()
            .map(|(value, label)| (*value, (*label).to_owned()));
        Self {
            name,
            low,
            high,
            is_logarithmic: true,
            ticks: ticks.collect(),
        }
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

impl Plot {
    /// The file.
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        text(
            &mut svg,
            LEFT,
            TOP - 22.0,
            "start",
            "font-size=\"15\" fill=\"#222222\"",
            &self.title,
        );
        self.grid(&mut svg);
        let mut ends = Vec::new();
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            self.line(&mut svg, series, colour);
            if let Some((_, y)) = series.points.last() {
                ends.push((self.at_y(*y), colour, series.name.as_str()));
            }
        }
        names(&mut svg, ends);
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, svg: &mut String) {
        let quiet = "fill=\"#555555\"";
        for (value, label) in &self.x.ticks {
            let x = self.at_x(*value);
            rule(svg, (x, TOP), (x, BOTTOM));
            text(svg, x, BOTTOM + 18.0, "middle", quiet, label);
        }
        for (value, label) in &self.y.ticks {
            let y = self.at_y(*value);
            rule(svg, (LEFT, y), (RIGHT, y));
            text(svg, LEFT - 8.0, y + 4.0, "end", quiet, label);
        }
        text(
            svg,
            f64::midpoint(LEFT, RIGHT),
            BOTTOM + 40.0,
            "middle",
            quiet,
            self.x.name,
        );
        text(svg, LEFT, TOP - 6.0, "start", quiet, self.y.name);
    }

    fn line(&self, svg: &mut String, series: &Series, colour: &str) {
        let points: Vec<_> = series
            .points
            .iter()
            .map(|(x, y)| (self.at_x(*x), self.at_y(*y)))
            .collect();
        let list: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let list = list.join(" ");
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{list}\"/>"
        );
        for (x, y) in points.iter().filter(|_| series.has_dots) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * self.x.place(value)
    }

    fn at_y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * self.y.place(value)
    }
}

/// Puts the name of each line beside its end, moved apart where they are close.
fn names(svg: &mut String, mut ends: Vec<(f64, &&str, &str)>) {
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (y, colour, name) in ends {
        let y = y.max(lowest + NAME_DISTANCE);
        lowest = y;
        text(
            svg,
            RIGHT + 8.0,
            y + 4.0,
            "start",
            &format!("fill=\"{colour}\""),
            name,
        );
    }
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, look: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {look}>{what}</text>"
    );
}

fn short(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(names: [&str; 2]) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            x: Axis::logarithmic("nodes", 1.0, 100.0, &[(1.0, "1"), (10.0, "10")]),
            y: Axis::linear("bytes", 2.0, 1.0),
            series: names
                .map(|name| Series {
                    name: name.to_owned(),
                    points: vec![(1.0, 0.0), (10.0, 2.0), (1000.0, 1.0)],
                    has_dots: true,
                })
                .into(),
        }
    }

    #[test]
    fn values_lie_where_the_axes_say_and_never_outside() {
        let svg = plot(["x", "y"]).svg();
        assert!(
            svg.contains("points=\"72.0,384.0 331.0,48.0 590.0,216.0\""),
            "{svg}"
        );
        assert!(svg.contains("a &lt; b"), "{svg}");
    }

    #[test]
    fn names_at_the_same_height_are_moved_apart() {
        let svg = plot(["x", "y"]).svg();
        for y in ["220.0", "237.0"] {
            assert!(
                svg.contains(&format!("y=\"{y}\" text-anchor=\"start\"")),
                "{svg}"
            );
        }
    }
}
