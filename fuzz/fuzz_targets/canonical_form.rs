//! A transaction envelope: canonical exactly if the codec writes the same bytes, as far as the
//! codec knows the fields.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidings_proto::{Message, canonical::CanonicalEnvelope, common::Envelope};

mod nested;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    nested::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let canonical = CanonicalEnvelope::parse(bytes);
    let Ok(decoded) = Envelope::decode(bytes) else {
        return;
    };
    let filled = !decoded.payload.is_empty() && !decoded.signature.is_empty();
    let written = decoded.encode_to_vec();
    if written == bytes {
        assert_eq!(canonical.is_ok(), filled);
    }
    if let Ok(canonical) = canonical {
        assert!(filled && bytes.starts_with(&written));
        assert_eq!(canonical.payload(), decoded.payload);
        assert_eq!(canonical.signature(), decoded.signature);
    }
});
