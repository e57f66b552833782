//! Links and processors, one at a time.

use super::*;
use crate::study::scenario::HEADER;

/// Sends what it is told to when the first block is injected, and notes what arrives.
#[derive(Default)]
struct Scripted {
    parcels: Vec<Parcel<u32>>,
    arrived: Vec<(u32, Duration)>,
}

impl Protocol for Scripted {
    type Body = u32;

    fn start(&mut self, _net: &mut Network<u32>) {}

    fn inject(&mut self, net: &mut Network<u32>, block: usize) {
        if block == 0 {
            for parcel in self.parcels.clone() {
                net.send(parcel);
            }
        }
    }

    fn receive(&mut self, net: &mut Network<u32>, parcel: Parcel<u32>) {
        self.arrived.push((parcel.body, net.now()));
    }

    fn due(&mut self, _net: &mut Network<u32>, _node: usize, _timer: u64) {}
}

const MEGABYTE: usize = 1_000_000;

fn parcel(from: usize, to: usize, size: usize, body: u32) -> Parcel<u32> {
    Parcel {
        from,
        to,
        size,
        about: Some(0),
        content: false,
        body,
    }
}

/// What arrives, and how long after the first injection.
fn arrivals(scenario: &Scenario, parcels: Vec<Parcel<u32>>) -> Vec<(u32, Duration)> {
    let mut scripted = Scripted {
        parcels,
        ..Scripted::default()
    };
    run(scenario, &mut scripted);
    let start = scenario.injected_at(0);
    let since = |(body, at): (u32, Duration)| (body, at - start);
    scripted.arrived.into_iter().map(since).collect()
}

fn lan() -> Scenario {
    Scenario::new(10, Net::Lan).blocks(1)
}

#[test]
fn small_messages_overtake_large_ones_that_wait() {
    let parcels = vec![
        parcel(0, 1, MEGABYTE, 1),
        parcel(0, 1, MEGABYTE, 2),
        parcel(0, 2, CONTROL_SIZE_MAX - 1, 3),
        parcel(0, 2, CONTROL_SIZE_MAX, 4),
    ];
    let arrived = arrivals(&lan(), parcels);
    let at = |body| {
        arrived
            .iter()
            .find(|(it, _)| *it == body)
            .map(|(_, at)| *at)
    };
    assert!(at(3) < Some(millis(11)), "{arrived:?}");
    assert!(at(4) > Some(millis(16)), "{arrived:?}");
    assert!(at(2) > Some(millis(17)), "{arrived:?}");
}

#[test]
fn a_message_takes_its_time_on_every_way() {
    let arrived = arrivals(&lan(), vec![parcel(0, 1, MEGABYTE, 1)]);
    // 20 us and 8 ms of sending, 0.1 and 1 ms of processing; travel is 0.14 to 1.8 ms.
    let fixed = Duration::from_micros(9_120);
    let travel = arrived[0].1 - fixed;
    assert!(travel > Duration::from_micros(140), "{travel:?}");
    assert!(travel < Duration::from_micros(1_800), "{travel:?}");
}

#[test]
fn downlinks_and_processors_serve_one_at_a_time() {
    let all = (1..9).map(|from| parcel(from, 9, MEGABYTE, 0)).collect();
    let arrived = arrivals(&lan(), all);
    for two in arrived.windows(2) {
        // The first waits for its last bit, which left 20 us after it could have.
        assert!(
            two[1].1 - two[0].1 >= Duration::from_micros(7_980),
            "{arrived:?}"
        );
    }
    assert_eq!(arrived.len(), 8);
}

#[test]
fn the_signatures_of_a_block_are_checked_once() {
    let content = |body| Parcel {
        content: true,
        ..parcel(0, 1, 10, body)
    };
    let arrived = arrivals(&lan(), vec![content(0), content(1), content(2)]);
    let mut processor_free = arrived[0].1;
    assert!(processor_free >= CHECKING);
    for (_, at) in &arrived[1..] {
        let own = at.saturating_sub(processor_free);
        assert!(own < CHECKING, "{arrived:?}");
        processor_free = *at;
    }
}

#[test]
fn what_is_lost_was_paid_for() {
    let scenario = Scenario {
        loss: 1.0,
        blocks: 4,
        ..lan()
    };
    let mut scripted = Scripted {
        parcels: vec![Parcel {
            about: Some(3),
            ..parcel(0, 1, scenario.size + HEADER, 0)
        }],
        ..Scripted::default()
    };
    let outcome = run(&scenario, &mut scripted);
    assert!(scripted.arrived.is_empty());
    assert_eq!(outcome.never, 9);
    assert!(outcome.root > 1.0 && outcome.root < 1.01, "{outcome:?}");
}

#[test]
fn crowds_are_as_large_as_they_should_be_and_never_hold_the_root() {
    let scenario = Scenario::new(50, Net::Lan);
    for seed in 0..50 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let chosen = crowd(&mut rng, &scenario, Crowd::of(0.3));
        assert!(!chosen[ROOT]);
        assert_eq!(chosen.iter().filter(|it| **it).count(), 15);
    }
}
