//! A frame from the network: decoded or refused, and forwarded as it came.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidings_proto::{Message, envelope::Opened, tag::check_tag};

mod nested;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    nested::mutate(data, size, max_size, seed)
});

fuzz_target!(|frame: &[u8]| {
    let Ok(opened) = Opened::decode(frame.to_vec().into()) else {
        return;
    };
    let legal = check_tag(opened.message()).is_ok();
    assert!(!legal || opened.message().kind().is_some());
    assert_eq!(
        opened.message().is_pull(),
        opened.message().pull_type().is_some()
    );
    let stripped = opened.envelope().without_secret();
    assert_eq!(stripped.payload, opened.envelope().payload);
    if let Some(secret) = &opened.envelope().secret_envelope {
        let _ = secret.internal_endpoint();
    }
    let again = Opened::decode(opened.envelope().encode_to_vec().into());
    assert_eq!(again.expect("we encoded it"), opened);
});
