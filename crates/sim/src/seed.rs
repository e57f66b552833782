//! Which seeds a scenario runs with, and how a failing one is run again.
//!
//! The only place that reads the environment: `SEED=n` runs exactly that seed, `ROUNDS=n` runs
//! that many instead of the scenario's own number.

use std::ops::Range;

/// The seeds to run: those of the scenario, unless the environment says otherwise.
pub fn seeds(scenario: Range<u64>) -> impl Iterator<Item = u64> {
    chosen(
        scenario,
        number_from_environment("SEED"),
        number_from_environment("ROUNDS"),
    )
}

fn chosen(scenario: Range<u64>, seed: Option<u64>, rounds: Option<u64>) -> Range<u64> {
    match (seed, rounds) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(rounds)) => scenario.start..scenario.start.saturating_add(rounds),
        (None, None) => scenario,
    }
}

/// The command that runs one seed of the scenario that runs in this thread again.
pub fn replay_command(seed: u64) -> String {
    let thread = std::thread::current();
    let scenario = thread.name().unwrap_or_default();
    format!("SEED={seed} cargo test -p tidings-sim {scenario}")
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    match value.trim().parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={value:?} is not a number: set it to one or unset it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_outweighs_a_number_of_rounds_and_both_outweigh_the_scenario() {
        assert_eq!(chosen(0..64, None, None), 0..64);
        assert_eq!(chosen(5..64, None, Some(3)), 5..8);
        assert_eq!(chosen(0..64, Some(9), Some(3)), 9..10);
    }

    #[test]
    fn the_replay_command_names_seed_and_scenario() {
        let command = replay_command(7);
        assert!(command.starts_with("SEED=7 cargo test -p tidings-sim "));
        assert!(command.ends_with("the_replay_command_names_seed_and_scenario"));
    }
}
