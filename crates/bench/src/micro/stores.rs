//! The message store at different sizes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tidings_gossip::{
    id::{Moment, PeerTime, PkiId},
    store::Latest,
};
use tidings_proto::gossip::Envelope;

use super::us;
use crate::{cost::cpu, report::Table};

/// As that of alive messages.
const TTL: Duration = Duration::from_secs(500);

/// Elements that are looked for or added in one go.
const BATCH: u32 = 100;

const TIME: PeerTime = PeerTime {
    incarnation: 1,
    sequence: 1,
};

/// Neighbouring numbers have distant names.
fn name(number: u32) -> PkiId {
    let mut digest = [0; 32];
    let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    digest[..8].copy_from_slice(&mixed.to_be_bytes());
    PkiId::new(digest)
}

/// Looking up and adding in a store of so many messages.
pub(super) fn table(elements: u32, each: Duration) -> Result<Table> {
    let now = Moment::after_start(Duration::from_secs(1));
    let message = Envelope::signed(Bytes::from(vec![7; 200]), Bytes::from(vec![7; 71]));
    let mut store = Latest::new(Some(TTL));
    for number in 0..elements {
        store.add(now, name(number), TIME, message.clone());
    }
    let new: Vec<PkiId> = (elements..elements + BATCH).map(name).collect();
    let known = (0..BATCH).map(|part| u64::from(part) * u64::from(elements) / u64::from(BATCH));
    let known: Vec<PkiId> = known.map(|number| name(number as u32)).collect();
    let is_news = |store: &mut Latest<PkiId, Envelope>, names: &[PkiId]| {
        names
            .iter()
            .filter(|name| store.is_news(name, TIME))
            .count()
    };
    let check_new = passes(&mut store, each, &new, is_news, |_| {})?;
    let check_known = passes(
        &mut store,
        each,
        &known,
        |store, names| names.len() - is_news(store, names),
        |_| {},
    )?;
    let add = |store: &mut Latest<PkiId, Envelope>, names: &[PkiId]| {
        let mut names = names.iter();
        let mut added = 0;
        while names
            .next()
            .is_some_and(|name| store.add(now, *name, TIME, message.clone()))
        {
            added += 1;
        }
        added
    };
    let remove = |store: &mut Latest<PkiId, Envelope>| {
        for name in &new {
            store.remove(name);
        }
    };
    let add = passes(&mut store, each, &new, add, remove)?;
    let mut table = Table::default();
    table.put("check_new", us(check_new));
    table.put("check_known", us(check_known));
    table.put("add", us(add));
    Ok(table)
}

/// Processor microseconds for each name, again and again for about so long; what follows each time
/// is not counted.
fn passes<S>(
    store: &mut S,
    each: Duration,
    names: &[PkiId],
    mut what: impl FnMut(&mut S, &[PkiId]) -> usize,
    mut then: impl FnMut(&mut S),
) -> Result<f64> {
    let (began, mut spent, mut times) = (Instant::now(), Duration::ZERO, 0_u32);
    while times == 0 || began.elapsed() < each {
        let before = cpu();
        let done = std::hint::black_box(what(store, names));
        spent += cpu().saturating_sub(before);
        ensure!(
            done == names.len(),
            "the store answered otherwise than expected"
        );
        then(store);
        times += 1;
    }
    Ok(spent.as_secs_f64() * 1e6 / f64::from(times) / names.len() as f64)
}
