//! This installation's own certificate authority, and the certificates that it issues to this server.
//!
//! **Not for** serving them (`certificate`), and not for anybody else's certificates: the key signs leaves of this server only.
//!
//! Invariants:
//! - clients pin the authority's *key*, so its certificate can be made anew (other names, a new term) without anybody noticing;
//! - the authority can speak only for names of this installation and for private addresses (name constraints, RFC 5280 section 4.2.1.10),
//!   so somebody who puts it into a browser gives away nothing else;
//! - a certificate is used only after it was verified as a client would do it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::{Clock, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::datadir::{DataDir, read_private, write_private};
use crate::names::Names;

const DAY_S: i64 = 86_400;
/// How long the authority's certificate is good; it is made anew before a leaf would outlive it.
const AUTHORITY_S: i64 = 3_650 * DAY_S;
/// How long a leaf is good.
pub(crate) const LEAF_S: i64 = 90 * DAY_S;
/// A leaf is renewed when it is good for no longer than this.
pub(crate) const RENEW_S: i64 = 30 * DAY_S;
/// Clocks of clients that are behind by no more than this still accept a new certificate.
const SKEW_S: i64 = 3_600;

/// A chain and its key, as they are kept.
pub(crate) struct Issued {
    /// The leaf, then the authority (PEM): clients that pin the authority's key see it here.
    pub(crate) chain_pem: String,
    /// PKCS #8 (PEM).
    pub(crate) key_pem: Zeroizing<String>,
}

/// The authority with its key.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    fingerprint: Digest,
}

impl Authority {
    /// Reads `ca.key` and `ca.crt`, making what is not there. A key that is there and cannot be read is an error: another one in its
    /// place would lock every client out.
    pub(crate) fn open(data: &DataDir, names: &Names, clock: &dyn Clock) -> anyhow::Result<Self> {
        let (key_path, path) = (data.join("ca.key"), data.join("ca.crt"));
        let key = if key_path.exists() {
            let pem = Zeroizing::new(String::from_utf8(read_private(&key_path)?).unwrap_or_default());
            KeyPair::from_pem(&pem).with_context(|| {
                format!(
                    "`{}` is not a private key: put the right one back, or move it away to have a new authority, which every client has to \
                     trust anew",
                    key_path.display()
                )
            })?
        } else {
            if path.exists() {
                tracing::warn!("`ca.key` is gone: a new authority is made, and every client has to trust it anew");
            }
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            write_private(&key_path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
            key
        };
        let fingerprint = crypto::sha256(&spki(&key));
        let kept = CertificateDer::from_pem_file(&path).ok().filter(|kept| public_key_of(kept) == Some(spki(&key)));
        let certificate = match kept {
            Some(kept) => kept,
            None => Self::certify(&key, fingerprint, names, clock, data)?,
        };
        Ok(Self { key, certificate, fingerprint })
    }

    /// SHA-256 of the public key (DER of its SubjectPublicKeyInfo): what clients pin.
    #[cfg(test)]
    pub(crate) fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The authority's certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same, as a file holds it.
    pub(crate) fn pem(&self) -> String {
        pem(&self.certificate)
    }

    /// The same name for the same key, so that a certificate made anew stays the issuer of every leaf.
    fn subject(fingerprint: Digest) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        let short: String = fingerprint.to_hex().chars().take(8).collect();
        subject.push(DnType::OrganizationName, "Cairn");
        subject.push(DnType::CommonName, format!("Cairn authority {short}"));
        subject
    }

    fn params(fingerprint: Digest, names: &Names, clock: &dyn Clock) -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = term(clock, AUTHORITY_S)?;
        params.distinguished_name = Self::subject(fingerprint);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted(names), excluded_subtrees: Vec::new() });
        Ok(params)
    }

    fn certify(
        key: &KeyPair,
        fingerprint: Digest,
        names: &Names,
        clock: &dyn Clock,
        data: &DataDir,
    ) -> anyhow::Result<CertificateDer<'static>> {
        let made = Self::params(fingerprint, names, clock)?.self_signed(key)?;
        write_private(&data.join("ca.crt"), made.pem().as_bytes())?;
        Ok(made.der().clone())
    }

    /// Issues a leaf with a key of its own. Where the authority's certificate does not cover it (other names, near its end), that is
    /// made anew first, with the same key.
    pub(crate) fn issue(&mut self, names: &Names, clock: &dyn Clock, data: &DataDir) -> anyhow::Result<Issued> {
        let leaf = self.sign(names, clock)?;
        let last = Duration::from_secs(u64::try_from(clock.now().as_seconds() + LEAF_S - 1)?);
        let covers = |certificate: &CertificateDer<'_>| {
            verify(&leaf.0, certificate, names, last).and_then(|()| verify(&leaf.0, certificate, names, now(clock)))
        };
        if covers(&self.certificate).is_err() {
            self.certificate = Self::certify(&self.key, self.fingerprint, names, clock, data)?;
            covers(&self.certificate).context("the made certificate does not verify: check `server.names`")?;
        }
        let chain_pem = format!("{}{}", pem(&leaf.0), pem(&self.certificate));
        Ok(Issued { chain_pem, key_pem: leaf.1 })
    }

    fn sign(&self, names: &Names, clock: &dyn Clock) -> anyhow::Result<(CertificateDer<'static>, Zeroizing<String>)> {
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())
            .context("no certificate can be made for `server.names`")?;
        (params.not_before, params.not_after) = term(clock, LEAF_S)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Cairn");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        // Of the issuer only the name and the key's identifier go into a leaf.
        let issuer = Issuer::new(Self::params(self.fingerprint, names, clock)?, &self.key);
        let made = params.signed_by(&pair, &issuer)?;
        Ok((made.der().clone(), Zeroizing::new(pair.serialize_pem())))
    }

    /// Whether a leaf is this authority's, for exactly these names, and good for longer than [`RENEW_S`].
    pub(crate) fn is_current(&self, leaf: &CertificateDer<'_>, names: &Names, clock: &dyn Clock) -> bool {
        let soon = now(clock).saturating_add(Duration::from_secs(RENEW_S.unsigned_abs()));
        names_of(leaf).as_ref() == Some(names)
            && verify(leaf, &self.certificate, names, now(clock)).is_ok()
            && verify(leaf, &self.certificate, names, soon).is_ok()
    }
}

fn now(clock: &dyn Clock) -> Duration {
    Duration::from_secs(clock.now().as_seconds().unsigned_abs())
}

fn term(clock: &dyn Clock, seconds: i64) -> anyhow::Result<(OffsetDateTime, OffsetDateTime)> {
    let now = clock.now().as_seconds();
    Ok((OffsetDateTime::from_unix_timestamp(now - SKEW_S)?, OffsetDateTime::from_unix_timestamp(now + seconds)?))
}

/// Verifies as a client does: the chain, the term, the use, the constraints, and each name.
fn verify(
    leaf: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    names: &Names,
    at: Duration,
) -> anyhow::Result<()> {
    verify_chain(leaf, &[], authority, at)?;
    let leaf = ParsedCertificate::try_from(leaf)?;
    for name in names {
        // A client asks for a name below a wildcard, never for the wildcard.
        let asked = name.strip_prefix("*.").map_or_else(|| name.clone(), |rest| format!("any.{rest}"));
        verify_server_name(&leaf, &ServerName::try_from(asked)?).with_context(|| format!("for `{name}`"))?;
    }
    Ok(())
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    shown: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
    at: Duration,
) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let leaf = ParsedCertificate::try_from(leaf)?;
    let algorithms = crypto::tls::provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, shown, UnixTime::since_unix_epoch(at), algorithms.all)?;
    Ok(())
}

/// Whether a leaf is good now under an authority, by the certificates that are shown with it.
pub(crate) fn verifies(
    leaf: &CertificateDer<'_>,
    shown: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
    clock: &dyn Clock,
) -> bool {
    verify_chain(leaf, shown, authority, now(clock)).is_ok()
}

/// What the authority may speak for: the DNS names, private and loopback addresses (which are nobody's on the internet), and the public
/// addresses among the names.
fn permitted(names: &Names) -> Vec<GeneralSubtree> {
    const PRIVATE: [(&str, u8); 9] = [
        ("127.0.0.0", 8),
        ("10.0.0.0", 8),
        ("172.16.0.0", 12),
        ("192.168.0.0", 16),
        ("100.64.0.0", 10),
        ("169.254.0.0", 16),
        ("::1", 128),
        ("fc00::", 7),
        ("fe80::", 10),
    ];
    let subnet = |address: IpAddr, bits| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits));
    let mut subtrees: Vec<_> =
        PRIVATE.iter().filter_map(|(address, bits)| Some(subnet(address.parse().ok()?, *bits))).collect();
    for name in names {
        subtrees.push(match name.parse::<IpAddr>() {
            Ok(address) => subnet(address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => GeneralSubtree::DnsName(name.strip_prefix("*.").unwrap_or(name).to_owned()),
        });
    }
    subtrees
}

fn spki(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

/// The SubjectPublicKeyInfo (DER) of a certificate.
pub(crate) fn public_key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    ParsedCertificate::try_from(certificate).ok().map(|parsed| parsed.subject_public_key_info().to_vec())
}

/// The subject's alternative names of a certificate; `None` where it cannot be read.
pub(crate) fn names_of(certificate: &CertificateDer<'_>) -> Option<Names> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(text).collect())
}

/// From when until when a certificate is good, in seconds since 1970.
pub(crate) fn term_of(certificate: &CertificateDer<'_>) -> anyhow::Result<(i64, i64)> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { bail!("not a certificate") };
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    use std::fmt::Write as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        // Writing to a string cannot fail, and base64 is ASCII.
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use testkit::TestClock;

    use super::*;

    struct World {
        _dir: tempfile::TempDir,
        data: DataDir,
        clock: TestClock,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        World { _dir: dir, data, clock: TestClock::default() }
    }

    fn names(list: &[&str]) -> Names {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn an_authority_keeps_its_key_through_new_names_and_its_own_end() {
        let World { data, clock, .. } = &world();
        let first = names(&["localhost", "127.0.0.1", "*.lab.example.com"]);
        let mut authority = Authority::open(data, &first, clock).unwrap();
        let made = chain(&authority.issue(&first, clock, data).unwrap());
        assert!(authority.is_current(&made[0], &first, clock));
        assert_eq!(made[1], *authority.certificate());

        let fingerprint = authority.fingerprint();
        let before = authority.certificate().clone();
        let mut again = Authority::open(data, &first, clock).unwrap();
        assert_eq!((again.fingerprint(), again.certificate()), (fingerprint, &before));

        // Another private address and a name below a permitted one need no new certificate of the authority, a foreign name does.
        again.issue(&names(&["localhost", "10.1.2.3", "a.lab.example.com"]), clock, data).unwrap();
        assert_eq!(again.certificate(), &before);
        let more = names(&["localhost", "cairn.example.org", "203.0.113.9"]);
        let renamed = chain(&again.issue(&more, clock, data).unwrap());
        assert_ne!(again.certificate(), &before);
        assert_eq!(again.fingerprint(), fingerprint);
        assert!(!again.is_current(&made[0], &more, clock) && again.is_current(&renamed[0], &more, clock));

        // Ten years on it is made anew with the same key, before a leaf would outlive it.
        clock.advance(Duration::from_secs((AUTHORITY_S - LEAF_S / 2).unsigned_abs()));
        let late = chain(&again.issue(&more, clock, data).unwrap());
        assert!(again.is_current(&late[0], &more, clock));
        assert_eq!(again.fingerprint(), fingerprint);
    }

    #[test]
    fn a_leaf_is_due_thirty_days_before_its_end_and_when_the_clock_was_wrong() {
        let World { data, clock, .. } = &world();
        let names = names(&["localhost"]);
        let mut authority = Authority::open(data, &names, clock).unwrap();
        let leaf = chain(&authority.issue(&names, clock, data).unwrap()).remove(0);
        clock.advance(Duration::from_secs((LEAF_S - RENEW_S - 60).unsigned_abs()));
        assert!(authority.is_current(&leaf, &names, clock));
        clock.advance(Duration::from_mins(2));
        assert!(!authority.is_current(&leaf, &names, clock));
        clock.set(TestClock::START.plus_millis(-2 * DAY_S * 1_000));
        assert!(!authority.is_current(&leaf, &names, clock), "not good yet");
    }

    #[test]
    fn the_authority_cannot_speak_for_names_that_are_not_the_installations() {
        let World { data, clock, .. } = &world();
        let ours = names(&["localhost", "cairn.example.com"]);
        let authority = Authority::open(data, &ours, clock).unwrap();
        for stolen in ["www.example.org", "example.com", "8.8.8.8"] {
            let stolen = names(&[stolen]);
            let (leaf, _) = authority.sign(&stolen, clock).unwrap();
            let error = verify(&leaf, authority.certificate(), &stolen, now(clock)).unwrap_err();
            assert!(format!("{error:#}").contains("NameConstraint"), "{error:#}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_never_replaced() {
        let World { data, clock, .. } = &world();
        let names = names(&["localhost"]);
        write_private(&data.join("ca.key"), b"nonsense").unwrap();
        let error = Authority::open(data, &names, clock).err().unwrap();
        assert!(format!("{error:#}").contains("is not a private key"), "{error:#}");
        assert_eq!(std::fs::read(data.join("ca.key")).unwrap(), b"nonsense");
    }

    #[test]
    fn openssl_agrees() {
        let World { data, clock, .. } = &world();
        let names = names(&["localhost", "127.0.0.1", "::1", "cairn.example.com"]);
        let mut authority = Authority::open(data, &names, clock).unwrap();
        write_private(&data.join("tls.crt"), authority.issue(&names, clock, data).unwrap().chain_pem.as_bytes())
            .unwrap();
        let openssl = |args: &[&str]| {
            let output = std::process::Command::new("openssl").args(args).output().unwrap();
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        };
        let (ca, leaf) = (data.join("ca.crt"), data.join("tls.crt"));
        let (ca, leaf) = (ca.to_str().unwrap(), leaf.to_str().unwrap());
        let at = clock.now().as_seconds().to_string();
        for check in [["-verify_hostname", "cairn.example.com"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]] {
            let args = ["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &at, "-CAfile", ca];
            let text = openssl(&[&args[..], &check, &[leaf]].concat());
            assert!(text.contains(": OK"), "{check:?}: {text}");
        }
        let text = openssl(&["x509", "-noout", "-text", "-in", ca]);
        for part in ["CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "Certificate Sign", "prime256v1"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
