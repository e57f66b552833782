//! Why a TLS handshake came to nothing, in words that name what to look at.

use std::{error::Error, fmt, io};

use rustls::{AlertDescription, CertificateError};

/// Names of a certificate that are shown.
const NAMES_SHOWN_MAX: usize = 4;

/// What went wrong, by whose certificate it is about. Reads after "TLS: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// We do not accept the other's certificate.
    Theirs(String),
    /// The other does not accept ours.
    Ours(&'static str),
    /// The other does not speak TLS.
    NotTls,
    /// Anything else.
    Other(String),
}

impl Fault {
    /// What this error, or what lies behind it, says of TLS; nothing if it is about something else.
    pub(crate) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(error));
            }
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// Of a handshake that failed.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        match Self::behind(error) {
            Some(fault) => fault,
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Other("the other end closed the connection in the handshake".to_owned())
            }
            None => Self::Other(error.to_string()),
        }
    }

    fn of(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(error) => {
                Self::Theirs(format!("its certificate {}", refusal(error)))
            }
            Error::AlertReceived(alert) => match distrust(*alert) {
                Some(text) => Self::Ours(text),
                None => Self::Other(format!("the other end ended the handshake: {alert:?}")),
            },
            Error::NoCertificatesPresented => {
                Self::Theirs("it shows no certificate, and must".to_owned())
            }
            Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Theirs(text) | Self::Other(text) => f.write_str(text),
            Self::Ours(text) => f.write_str(text),
            Self::NotTls => f.write_str("the other end does not speak TLS"),
        }
    }
}

/// Why a certificate is not accepted, to be read behind "the certificate".
pub(super) fn refusal(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not issued by a root that is trusted"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: compare the clocks"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for this use (extended key usage)"
        }
        CertificateError::NotValidForName => "is for another name",
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented
                .iter()
                .take(NAMES_SHOWN_MAX)
                .map(|name| bare(name));
            let names: Vec<&str> = names.collect();
            return format!(
                "is for other names than the one dialled: {}",
                names.join(", ")
            );
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed by an algorithm that is not supported"
        }
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            "is that of an authority (CA:TRUE): issue one for the peer"
        }
        other => return format!("is not good: {other}"),
    };
    text.to_owned()
}

/// `DnsName("a")` without what is around the name.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// What the other end has against our certificate, if the alert is about that.
fn distrust(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA => {
            "the other end does not trust our TLS certificate: it knows no root for it (UnknownCA)"
        }
        AlertDescription::CertificateUnknown => {
            "the other end does not trust our TLS certificate (CertificateUnknown)"
        }
        AlertDescription::BadCertificate => {
            "the other end does not trust our TLS certificate (BadCertificate)"
        }
        AlertDescription::UnsupportedCertificate => {
            "the other end does not trust our TLS certificate (UnsupportedCertificate)"
        }
        AlertDescription::CertificateExpired => {
            "the other end says that our TLS certificate has expired"
        }
        AlertDescription::CertificateRevoked => {
            "the other end says that our TLS certificate is revoked"
        }
        AlertDescription::CertificateRequired => "the other end wants a TLS certificate of ours",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{Error, OtherError};

    use super::*;

    fn text(error: Error) -> String {
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
        Fault::of_handshake(&wrapped).to_string()
    }

    #[test]
    fn what_rustls_says_is_put_into_words() {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(
            text(unknown),
            "its certificate is not issued by a root that is trusted"
        );
        let authority = OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity")));
        let authority = Error::InvalidCertificate(CertificateError::Other(authority));
        assert_eq!(
            text(authority),
            "its certificate is that of an authority (CA:TRUE): issue one for the peer"
        );
        let alert = Error::AlertReceived(AlertDescription::BadCertificate);
        assert_eq!(
            text(alert.clone()),
            "the other end does not trust our TLS certificate (BadCertificate)"
        );
        let alert = Fault::behind(&io::Error::other(alert));
        assert!(matches!(alert, Some(Fault::Ours(_))), "{alert:?}");
        let names = CertificateError::NotValidForNameContext {
            expected: rustls_pki_types::ServerName::try_from("z").unwrap(),
            presented: ["DnsName(\"a\")", "IpAddress(127.0.0.1)", "c", "d", "e"]
                .map(str::to_owned)
                .into(),
        };
        assert_eq!(
            text(Error::InvalidCertificate(names)),
            "its certificate is for other names than the one dialled: a, 127.0.0.1, c, d"
        );
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        let eof = Fault::of_handshake(&eof).to_string();
        assert_eq!(eof, "the other end closed the connection in the handshake");
        assert_eq!(Fault::behind(&io::Error::other("no")), None);
    }
}
