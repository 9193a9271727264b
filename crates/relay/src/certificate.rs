//! Certificate and key of a way in without the server, read again when the files change; and whether users would take it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use domain::Timestamp;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// When the two files were written.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

/// A warning when the end is this near, in seconds.
const WARN_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 86_400;
/// How long files that are no good are left alone while they do not change: whoever connects must not fill the log.
const AGAIN: Duration = Duration::from_secs(10);

/// What TLS is spoken with.
pub(crate) struct Certificate {
    /// `CLUSTER` or `SSH`, for what is said of the settings.
    of: &'static str,
    chain: PathBuf,
    key: PathBuf,
    read: Mutex<Read>,
    /// What was said of its end last: of which term, and how many days before.
    said: Mutex<Option<(Term, i64)>>,
}

struct Read {
    stamp: Stamp,
    config: Arc<ServerConfig>,
    term: Term,
    /// Files that were no good, and when.
    refused: Option<(Stamp, Instant)>,
}

/// From when until when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    from_s: i64,
    until_s: i64,
}

impl Certificate {
    pub(crate) fn open(of: &'static str, chain: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        // The stamp first: what is written meanwhile is read again.
        let stamp = stamp(&chain, &key);
        let (config, term) = load(of, &chain, &key)?;
        let read = Mutex::new(Read { stamp, config, term, refused: None });
        Ok(Self { of, chain, key, read, said: Mutex::default() })
    }

    /// The configuration of now. Files that do not fit together, because only one is replaced yet, change nothing.
    pub(crate) fn now(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.look().config)
    }

    fn look(&self) -> MutexGuard<'_, Read> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.chain, &self.key);
        let was_refused = read.refused.is_some_and(|(known, at)| known == stamp && at.elapsed() < AGAIN);
        if stamp != read.stamp && !was_refused {
            match load(self.of, &self.chain, &self.key) {
                Ok((config, term)) => {
                    tracing::info!(way = self.of, "a new certificate is served from now on");
                    *read = Read { stamp, config, term, refused: None };
                }
                Err(error) => {
                    read.refused = Some((stamp, Instant::now()));
                    tracing::warn!(error = format!("{error:#}"), "the new certificate is not used yet");
                }
            }
        }
        read
    }

    /// Whether users take it at this time. From two weeks before its end on the log says so, once a day.
    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        let (term, now_s) = (self.look().term, now.as_seconds());
        let left_s = term.until_s - now_s;
        let is_early = now_s < term.from_s;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let say = (is_early || left_s < WARN_S).then_some((term, left_s.div_euclid(DAY_S)));
        let is_new = say != *said;
        *said = say;
        if is_new && say.is_some() {
            self.tell(term, is_early, left_s);
        }
        !is_early && left_s >= 0
    }

    /// When it ends.
    pub(crate) fn ends(&self) -> Timestamp {
        at(self.look().term.until_s)
    }

    fn tell(&self, term: Term, is_early: bool, left_s: i64) {
        let (way, days, ends) = (self.of, left_s / DAY_S, at(term.until_s).to_string());
        let hint = format!("replace the files of RELAY_{way}_CERT and RELAY_{way}_KEY");
        if is_early {
            let from = at(term.from_s).to_string();
            tracing::error!(
                way,
                from,
                "the certificate is not good yet: nobody is told of the way in without the server"
            );
        } else if left_s < 0 {
            tracing::error!(
                way,
                ends,
                hint,
                "the certificate has ended: nobody is told of the way in without the server any more, and users come through the server"
            );
        } else {
            tracing::warn!(way, ends, days, hint, "the certificate ends soon");
        }
    }
}

/// The last moment that people count, for what claims to be good for longer: a certificate may say year 9999, and calendars end there.
const LAST_S: i64 = 253_402_300_799;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.clamp(0, LAST_S) * 1_000)
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    let of = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    (of(certificate), of(key))
}

fn load(of: &str, certificate: &Path, key: &Path) -> anyhow::Result<(Arc<ServerConfig>, Term)> {
    let named = || format!("RELAY_{of}_CERT");
    let chain = CertificateDer::pem_file_iter(certificate).with_context(named)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(named)?;
    let term = chain.first().and_then(term).context("there is no certificate in it").with_context(named)?;
    let named_key = || format!("RELAY_{of}_KEY");
    let key = fleet::read_key(key).with_context(named_key)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .context("it holds no private key in PEM")
        .with_context(named_key)?;
    let config = ServerConfig::builder_with_provider(crypto::tls::install());
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config =
        config.with_single_cert(chain, key).with_context(|| format!("RELAY_{of}_CERT and RELAY_{of}_KEY"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), term))
}

fn term(certificate: &CertificateDer<'_>) -> Option<Term> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some(Term { from_s: validity.not_before.timestamp(), until_s: validity.not_after.timestamp() })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use testkit::kube::Authority;

    use super::*;

    fn write(path: &Path, text: &str, age_s: u64) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - age_s);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn a_new_certificate_is_used_once_both_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        assert!(Certificate::open("SSH", certificate.clone(), key.clone()).is_err());
        let (_, first, first_key) = testkit::kube::certificates();
        write(&certificate, &first, 100);
        write(&key, &first_key, 100);
        let served = Certificate::open("SSH", certificate.clone(), key.clone()).unwrap();
        let before = served.now();
        assert!(Arc::ptr_eq(&before, &served.now()), "what did not change is not read again");
        let (_, second, second_key) = testkit::kube::certificates();
        write(&certificate, &second, 50);
        assert!(Arc::ptr_eq(&before, &served.now()), "a certificate with another's key");
        write(&key, &second_key, 50);
        assert!(!Arc::ptr_eq(&before, &served.now()));
        std::fs::remove_file(&key).unwrap();
        let _ = served.now();
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_the_one_before_is_served_on() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let (_, chain, secret) = testkit::kube::certificates();
        write(&certificate, &chain, 100);
        // The certificate is everybody's to read.
        std::fs::set_permissions(&certificate, Permissions::from_mode(0o644)).unwrap();
        let open = || Certificate::open("CLUSTER", certificate.clone(), key.clone());
        for mode in [0o644, 0o640, 0o604] {
            write(&key, &secret, 100);
            std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let why = format!("{:#}", open().err().unwrap());
            assert!(why.contains("RELAY_CLUSTER_KEY") && why.contains("chmod 600"), "{why}");
            assert!(!why.contains("PRIVATE"), "{why}");
        }
        std::fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
        let served = open().unwrap();
        let before = served.now();
        std::fs::remove_file(&key).unwrap();
        write(&key, &secret, 50);
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        assert!(Arc::ptr_eq(&before, &served.now()), "read by others now");
    }

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last_and_its_end_is_told_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let (from_s, until_s) = (1_900_000_000, 1_900_000_000 + 90 * DAY_S);
        let authority = Authority::generate();
        let put = |until_s: i64, age_s: u64| {
            let (chain, secret) = authority.issue_for(&["relay.example"], from_s, until_s);
            write(&certificate, &chain, age_s);
            write(&key, &secret, age_s);
        };
        put(until_s, 100);
        let served = Certificate::open("CLUSTER", certificate.clone(), key.clone()).unwrap();
        let is_good = |at_s: i64| served.is_good(Timestamp::from_millis(at_s * 1_000));
        let said = || served.said.lock().unwrap().map(|(_, days)| days);
        assert!(!is_good(from_s - 1) && said().is_some());
        assert!(is_good(from_s) && said().is_none());
        assert!(is_good(until_s - WARN_S) && said().is_none());
        assert!(is_good(until_s - WARN_S + 1) && said() == Some(13));
        assert!(is_good(until_s - WARN_S + 2) && said() == Some(13));
        assert!(is_good(until_s) && said() == Some(0));
        assert!(!is_good(until_s + 1) && said() == Some(-1));
        // Renewed, it is good at once, and nothing more is said.
        put(until_s + 90 * DAY_S, 50);
        assert!(is_good(until_s + 1) && said().is_none());
    }
}
