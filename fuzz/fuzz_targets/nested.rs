//! Changes to messages inside messages that leave the lengths around them right.
//!
//! A byte more or less somewhere inside a protobuf message makes all of it undecodable, and nothing
//! behind the decoder is tried. So a field is chosen by descending, changed, and wrapped again.

use std::ops::Range;

use libfuzzer_sys::fuzzer_mutate;

/// Levels that are descended at most: a block's identities lie eight deep.
const DEPTH_MAX: usize = 12;

/// Changes the first `size` bytes of `data`, which has room for `size_max`. Gives the new size.
pub fn mutate(data: &mut [u8], size: usize, size_max: usize, seed: u32) -> usize {
    let mut choices = Choices(u64::from(seed));
    let mut path = vec![0..size];
    while path.len() < DEPTH_MAX && choices.below(6) > 0 {
        let fields = fields(data, path[path.len() - 1].clone());
        if fields.is_empty() {
            break;
        }
        path.push(fields[choices.below(fields.len())].clone());
    }
    // Lengths around it may need a byte more each.
    let room = size_max.saturating_sub(size + path.len());
    let mut body = data[path[path.len() - 1].clone()].to_vec();
    let len = body.len();
    body.resize(len + room, 0);
    let len = fuzzer_mutate(&mut body, len, len + room);
    body.truncate(len);
    for pair in path.windows(2).rev() {
        let (outer, inner) = (&pair[0], &pair[1]);
        let head = inner.start - varint(inner.len() as u64).len();
        let len = varint(body.len() as u64);
        body = [
            &data[outer.start..head],
            &len,
            &body,
            &data[inner.end..outer.end],
        ]
        .concat();
    }
    if body.len() > size_max {
        return size;
    }
    data[..body.len()].copy_from_slice(&body);
    body.len()
}

/// Where the bodies of its fields with lengths are, if these bytes are a message.
fn fields(data: &[u8], message: Range<usize>) -> Vec<Range<usize>> {
    let (mut at, mut fields) = (message.start, Vec::new());
    while at < message.end {
        let Some((key, next)) = read(data, at..message.end) else {
            return Vec::new();
        };
        at = match key & 7 {
            0 => match read(data, next..message.end) {
                Some((_, next)) => next,
                None => return Vec::new(),
            },
            1 => next + 8,
            5 => next + 4,
            2 => {
                let Some((len, start)) = read(data, next..message.end) else {
                    return Vec::new();
                };
                let shortest = varint(len).len() == start - next;
                match start.checked_add(len as usize) {
                    Some(end) if end <= message.end && shortest => {
                        fields.push(start..end);
                        end
                    }
                    _ => return Vec::new(),
                }
            }
            _ => return Vec::new(),
        };
    }
    if at == message.end {
        fields
    } else {
        Vec::new()
    }
}

fn read(data: &[u8], range: Range<usize>) -> Option<(u64, usize)> {
    let mut value = 0;
    for (n, at) in range.enumerate().take(10) {
        value |= u64::from(data[at] & 0x7f).checked_shl(7 * n as u32)?;
        if data[at] < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Numbers that follow from the seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        ((self.0 >> 33) as usize) % bound
    }
}
