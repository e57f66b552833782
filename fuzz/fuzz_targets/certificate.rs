//! A certificate or a list of revoked ones: read or refused, and written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_msp::{certificate::Certificate, crl::Crl, identity::pki_id};

fuzz_target!(|bytes: &[u8]| {
    let _ = pki_id(bytes);
    let certificate = Certificate::from_der(bytes).or_else(|_| Certificate::from_pem(bytes));
    let list = Crl::parse(bytes);
    let Ok(certificate) = certificate else {
        return;
    };
    let again = Certificate::from_pem(certificate.to_pem().as_bytes()).expect("it was read");
    assert_eq!(again.der(), certificate.der());
    assert_eq!(again.fingerprint(), certificate.fingerprint());
    assert_eq!(again.not_after(), certificate.not_after());
    if let Ok(low) = certificate.with_low_s(certificate.public_key()) {
        assert_eq!(low.tbs(), certificate.tbs());
    }
    if let Ok(list) = list {
        let _ = (list.lists(&certificate), list.is_signed_by(&certificate));
    }
});
