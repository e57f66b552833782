//! ECDSA signatures as bytes: two integers in DER, and which of the twins is the low one.

use crate::crypto::SignatureRefused;
use crate::der;

/// A curve that we can verify on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

const P256_ORDER: [u8; 32] =
    number("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
const P384_ORDER: [u8; 48] = number(concat!(
    "ffffffffffffffffffffffffffffffffffffffffffffffff",
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
));
const P521_ORDER: [u8; 66] = number(concat!(
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa",
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
));
const P256_HALF: [u8; 32] = half(P256_ORDER);
const P384_HALF: [u8; 48] = half(P384_ORDER);
const P521_HALF: [u8; 66] = half(P521_ORDER);

impl Curve {
    /// The order of the group, big-endian.
    pub(crate) const fn order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_ORDER,
            Self::P384 => &P384_ORDER,
            Self::P521 => &P521_ORDER,
        }
    }

    const fn half_order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_HALF,
            Self::P384 => &P384_HALF,
            Self::P521 => &P521_HALF,
        }
    }
}

/// The two numbers of an ECDSA signature: big-endian, positive, without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EcdsaParts<'a> {
    pub(crate) r: &'a [u8],
    pub(crate) s: &'a [u8],
}

impl<'a> EcdsaParts<'a> {
    /// As Go's ASN.1 decoder takes a message signature: strict, but bytes after the sequence and
    /// bytes inside it after `s` are not looked at.
    pub(crate) fn from_message(signature: &'a [u8]) -> Result<Self, SignatureRefused> {
        Self::read(signature)
            .map(|(parts, _)| parts)
            .ok_or(SignatureRefused::Malformed)
    }

    /// As a certificate must carry it: nothing extra anywhere.
    pub(crate) fn from_certificate(signature: &'a [u8]) -> Result<Self, SignatureRefused> {
        match Self::read(signature) {
            Some((parts, 0)) => Ok(parts),
            _ => Err(SignatureRefused::Malformed),
        }
    }

    /// The parts and the number of extra bytes.
    fn read(signature: &'a [u8]) -> Option<(Self, usize)> {
        let sequence = der::read(der::SEQUENCE, signature)?;
        let (r, rest) = der::read_positive(sequence.content)?;
        let (s, inner_rest) = der::read_positive(rest)?;
        Some((Self { r, s }, inner_rest.len() + sequence.rest.len()))
    }

    /// Whether `s` is at most half the order.
    pub(crate) fn is_low(&self, curve: Curve) -> bool {
        !is_greater(self.s, curve.half_order())
    }

    /// Clean DER of the same numbers.
    pub(crate) fn to_der(self) -> Vec<u8> {
        encode(self.r, self.s)
    }

    /// Clean DER of the low twin. `None` when `s` is not below the order, which no signer makes.
    pub(crate) fn to_low_der(self, curve: Curve) -> Option<Vec<u8>> {
        if self.is_low(curve) {
            return Some(self.to_der());
        }
        self.twin(curve)
    }

    /// Clean DER of the other signature that verifies wherever this one does.
    pub(crate) fn twin(&self, curve: Curve) -> Option<Vec<u8>> {
        let other = subtract(curve.order(), self.s)?;
        Some(encode(self.r, &other))
    }
}

fn encode(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(r.len() + s.len() + 6);
    der::write_positive(r, &mut numbers);
    der::write_positive(s, &mut numbers);
    let mut out = Vec::with_capacity(numbers.len() + 3);
    der::write(der::SEQUENCE, &numbers, &mut out);
    out
}

fn is_greater(left: &[u8], right: &[u8]) -> bool {
    let (left, right) = (
        der::without_leading_zeros(left),
        der::without_leading_zeros(right),
    );
    (left.len(), left) > (right.len(), right)
}

/// `left - right`, when that is positive.
fn subtract(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    if !is_greater(left, right) {
        return None;
    }
    let mut out = left.to_vec();
    let mut borrow = 0i16;
    let mut right = right.iter().rev();
    for digit in out.iter_mut().rev() {
        let taken = i16::from(*digit) - i16::from(right.next().copied().unwrap_or(0)) - borrow;
        borrow = i16::from(taken < 0);
        *digit = u8::try_from(taken.rem_euclid(256)).expect("a remainder of 256 is a byte");
    }
    Some(out)
}

/// A number written in hex, at compile time.
const fn number<const N: usize>(hex: &str) -> [u8; N] {
    let hex = hex.as_bytes();
    assert!(hex.len() == 2 * N, "two digits for each byte");
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        out[at] = 16 * digit(hex[2 * at]) + digit(hex[2 * at + 1]);
        at += 1;
    }
    out
}

const fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        _ => panic!("not a lower-case hex digit"),
    }
}

const fn half<const N: usize>(number: [u8; N]) -> [u8; N] {
    let mut out = [0; N];
    let mut carry = 0;
    let mut at = 0;
    while at < N {
        out[at] = (number[at] >> 1) | carry;
        carry = (number[at] & 1) << 7;
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_order_is_low_and_one_more_is_high() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let half = curve.half_order();
            let mut above = half.to_vec();
            *above.last_mut().expect("not empty") += 1;
            let r: &[u8] = &[1];
            let half = der::without_leading_zeros(half);
            let above = der::without_leading_zeros(&above);
            assert!(EcdsaParts { r, s: half }.is_low(curve));
            assert!(!EcdsaParts { r, s: above }.is_low(curve));
            // The order is odd, so the two are twins.
            let twin = EcdsaParts { r, s: above }.to_low_der(curve);
            assert_eq!(twin, Some(EcdsaParts { r, s: half }.to_der()));
        }
    }

    #[test]
    fn an_s_at_or_above_the_order_has_no_twin() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let s = der::without_leading_zeros(curve.order());
            assert_eq!(EcdsaParts { r: &[1], s }.to_low_der(curve), None);
            let longer = [&[1], curve.order()].concat();
            assert_eq!(
                EcdsaParts {
                    r: &[1],
                    s: &longer
                }
                .to_low_der(curve),
                None
            );
        }
    }

    #[test]
    fn the_half_order_of_p256_is_the_known_number() {
        let known = "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8";
        assert_eq!(hex::encode(Curve::P256.half_order()), known);
    }
}
