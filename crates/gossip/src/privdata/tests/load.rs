//! What blocks that ask for what nobody has cost the core.

use std::time::Instant;

use super::*;

/// Run by hand: `cargo test -p tidings-gossip load -- --ignored --nocapture`.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures")]
#[ignore = "takes a while; prints how long the core is busy with one round of all gatherings"]
fn a_round_in_which_nobody_has_anything() {
    let mut t = Table::among(&[]);
    for n in 0..100 {
        t.meet("B", &format!("b{n}"), 9);
    }
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for block in 1..=16 {
        let items = (0..5000).map(|seq| wanted(block, seq)).collect();
        let out = t.want(block, items);
        waiting.extend(t.asked(&out));
    }
    println!("begun after {:?}", begun.elapsed());
    let (begun, mut answers, mut worst) = (Instant::now(), 0, Duration::ZERO);
    while let Some(asked) = waiting.pop() {
        let one = Instant::now();
        let out = t.answer(&asked, vec![]);
        worst = worst.max(one.elapsed());
        waiting.extend(t.asked(&out));
        answers += 1;
    }
    println!(
        "{answers} answers take {:?}, one at most {worst:?}",
        begun.elapsed()
    );
}
