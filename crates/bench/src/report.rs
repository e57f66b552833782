//! What a run found, as JSON: tables of figures in the order of the baseline's columns.
//!
//! A figure for which the machine has a floor carries that floor and how many times it lies above
//! it. Figures in wall time are marked: they say as much of the machine as of us.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{cost::Spent, floor::Floor};

/// One number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    value: f64,
    unit: &'static str,
    /// The least that it could be here, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    /// The value in floors.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// Depends on the machine and on who else uses it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    machine_dependent: bool,
}

impl Figure {
    pub(crate) fn new(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            unit,
            floor: None,
            ratio: None,
            machine_dependent: false,
        }
    }

    /// With what it cannot go below.
    pub(crate) fn over(self, floor: f64) -> Self {
        Self {
            floor: Some(floor),
            ratio: (floor > 0.0).then(|| self.value / floor),
            ..self
        }
    }

    /// Measured by the clock on the wall.
    pub(crate) fn by_the_wall(self) -> Self {
        Self {
            machine_dependent: true,
            ..self
        }
    }
}

/// Figures under their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<(&'static str, Figure)>);

impl Table {
    pub(crate) fn put(&mut self, name: &'static str, figure: Figure) {
        self.0.push((name, figure));
    }

    /// How busy others were in the meantime, where that is known.
    pub(crate) fn put_others(&mut self, spent: Spent) {
        if let Some(cores) = spent.others_cores {
            self.put("others", Figure::new(cores, "cores").by_the_wall());
        }
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, figure)| (name, figure)))
    }
}

/// Tables under their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables(Vec<(&'static str, Table)>);

impl Tables {
    pub(crate) fn put(&mut self, name: &'static str, table: Table) {
        self.0.push((name, table));
    }
}

impl Serialize for Tables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, table)| (name, table)))
    }
}

/// All of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Its letter in the baseline.
    pub(crate) workload: &'static str,
    /// With what it was run.
    pub(crate) settings: Map<String, Value>,
    /// The floor, measured just before.
    pub(crate) floor: Floor,
    /// What was found.
    pub(crate) tables: Tables,
}

/// The value that this part (0 to 1) of all do not exceed; none of nothing.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|part| percentile(&values, part));
        assert_eq!(found, [1.0, 100.0, 198.0, 200.0].map(Some));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_figure_shows_what_it_has() {
        let plain = serde_json::to_string(&Figure::new(2.0, "messages")).unwrap();
        assert_eq!(plain, r#"{"value":2.0,"unit":"messages"}"#);
        let full = Figure::new(3.0, "ms").over(2.0).by_the_wall();
        let full = serde_json::to_string(&full).unwrap();
        assert_eq!(
            full,
            r#"{"value":3.0,"unit":"ms","floor":2.0,"ratio":1.5,"machine_dependent":true}"#
        );
        let none = serde_json::to_string(&Figure::new(3.0, "ms").over(0.0)).unwrap();
        assert_eq!(none, r#"{"value":3.0,"unit":"ms","floor":0.0}"#);
    }
}
