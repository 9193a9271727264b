//! Why no connection to the API server was made: in plain words for whoever asked, and with all that is known for the log.
//!
//! Whoever asked is told what is wrong with a certificate, and neither names nor addresses of the cluster's own.

use std::fmt;
use std::io;

use domain::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::Refusal;

/// What became of an attempt.
#[derive(Debug)]
pub(super) struct Unreached {
    /// What is wrong with the certificate, where it is that.
    certificate: Option<String>,
    /// In the words of who failed.
    detail: String,
}

impl Unreached {
    pub(super) fn new(detail: impl fmt::Display) -> Self {
        Self { certificate: None, detail: detail.to_string() }
    }

    /// What whoever asked is told.
    pub(super) fn refusal(&self) -> Refusal {
        let plain = "the cluster's API server cannot be reached from the relay";
        match &self.certificate {
            None => Refusal::BadGateway(plain.into()),
            Some(why) => Refusal::BadGateway(format!("{plain}: {why}").into()),
        }
    }
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let certificate = match tls {
            Some(rustls::Error::InvalidCertificate(wrong)) => Some(plainly(wrong)),
            Some(rustls::Error::NoCertificatesPresented) => Some("it shows no certificate".to_owned()),
            _ => None,
        };
        Self { certificate, detail: error.to_string() }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.certificate {
            None => f.write_str(&self.detail),
            Some(why) => write!(f, "{why} ({})", self.detail),
        }
    }
}

fn plainly(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate ended at {}, and the relay's clock says {}; whoever runs the cluster has to renew it",
            said(*not_after),
            said(*time)
        ),
        CertificateError::Expired => "its certificate has ended; whoever runs the cluster has to renew it".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is good from {} on, and the relay's clock says {}; one of the two clocks is wrong",
            said(*not_before),
            said(*time)
        ),
        CertificateError::NotValidYet => {
            "its certificate is not good yet, or the relay's clock is late".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host than the relay was told to go to (RELAY_CLUSTER_API)".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of another authority than the cluster's (`ca.crt` of the relay's service account): it has a new one that the relay was \
             not given, or somebody else answers in its place"
                .to_owned()
        }
        _ => "its certificate is none that can be trusted".to_owned(),
    }
}

/// The last second of the year 9999, in seconds since 1970: no date is written after it.
const LAST_S: i64 = 253_402_300_799;

fn said(time: UnixTime) -> String {
    match i64::try_from(time.as_secs()) {
        Ok(seconds @ ..=LAST_S) => Timestamp::from_millis(seconds * 1_000).to_string(),
        _ => "a time that no calendar has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: rustls::Error) -> (String, String) {
        let unreached = Unreached::from(io::Error::new(io::ErrorKind::InvalidData, error));
        (unreached.refusal().to_string(), unreached.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_and_to_users_without_the_clusters_names() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let host = "k.internal".try_into().unwrap();
        let other =
            CertificateError::NotValidForNameContext { expected: host, presented: vec!["DnsName(\"x\")".into()] };
        for (wrong, expect) in [
            (
                CertificateError::ExpiredContext { time: at(1_700_086_400), not_after: at(1_700_000_000) },
                "ended at 2023-11-14T22:13:20.000Z, and the relay's clock says 2023-11-15",
            ),
            (
                CertificateError::NotValidYetContext { time: at(0), not_before: at(1_700_000_000) },
                "good from 2023-11-14T22:13:20.000Z on",
            ),
            (CertificateError::Expired, "has ended"),
            (CertificateError::NotValidYet, "not good yet"),
            (other, "another host than the relay was told"),
            (CertificateError::UnknownIssuer, "another authority than the cluster's"),
            (CertificateError::BadEncoding, "none that can be trusted"),
            (
                CertificateError::ExpiredContext { time: at(0), not_after: at(253_402_300_800) },
                "a time that no calendar has",
            ),
        ] {
            let (user, log) = of(rustls::Error::InvalidCertificate(wrong));
            assert!(user.contains("cannot be reached from the relay: ") && user.contains(expect), "{expect}: {user}");
            assert!(log.contains(expect) && log.contains("invalid peer certificate"), "{expect}: {log}");
            assert!(!user.contains("k.internal") && !user.contains("DnsName"), "{user}");
        }
        let (user, log) = of(rustls::Error::DecryptError);
        assert!(!user.contains("certificate") && log.contains("decrypt"), "{user}: {log}");
        assert!(!Unreached::new("it did not answer in time").refusal().to_string().contains("answer"));
    }
}
