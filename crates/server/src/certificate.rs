//! Which certificate a connection is served, and keeping it good: renewed before its end, issued anew when the names change, read
//! again when its files change. All while serving: connections go on, new handshakes get the new certificate.
//!
//! **Not for** making certificates (`authority`) or ordering them (`acme`).
//!
//! Invariant: there is always a certificate. One that cannot be renewed or read is served on, and an error is logged.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::{Clock, Digest};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, names_of, public_key_of, term_of, verifies};
use crate::config::ServerSection;
use crate::datadir::{DataDir, read_private, write_private};
use crate::names::{self, Names};
use crate::tls::ACME_PROTOCOL;

/// How often files and terms are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A warning when a certificate that others renew is this near to its end.
const WARN_S: i64 = 14 * 86_400;

/// What is served, and where it comes from.
pub(crate) struct Certificates {
    section: ServerSection,
    data: Arc<DataDir>,
    clock: Arc<dyn Clock>,
    /// For every name that no ordered certificate is for.
    base: RwLock<Arc<CertifiedKey>>,
    /// From an ACME server, for its names.
    ordered: RwLock<Option<(Names, Arc<CertifiedKey>)>>,
    /// Answers to challenges that are under way (RFC 8737), by name.
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    source: Mutex<Source>,
}

enum Source {
    Own(Box<Authority>),
    Files(Box<Files>),
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Stamp,
    seen: Stamp,
}

/// What tells a changed pair of files from an unchanged one.
type Stamp = [Option<(u64, u64, i64, i64, u64)>; 2];

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        // Followed through links: what Kubernetes and certbot exchange is the link.
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
    })
}

/// Reads a chain and its key from PEM, and refuses a pair that does not belong together.
pub(crate) fn certified(chain_pem: &[u8], key_pem: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is not a PEM certificate chain")?;
    if chain.is_empty() {
        bail!("the certificate's file holds no certificate");
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).context("the key is not a PEM private key")?;
    let certified = CertifiedKey::from_der(chain, key, &crypto::tls::provider())
        .context("the certificate and the key do not belong together")?;
    Ok(Arc::new(certified))
}

/// Reads a pair of files.
pub(crate) fn read_pair(certificate: &Path, key: &Path) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = fs::read(certificate).with_context(|| format!("cannot read `{}`", certificate.display()))?;
    certified(&chain, &read_private(key)?)
        .with_context(|| format!("`{}` and `{}`", certificate.display(), key.display()))
}

impl Certificates {
    /// Reads the configured certificate, or has this installation's authority issue one where none is configured.
    pub(crate) fn open(
        section: &ServerSection,
        data: Arc<DataDir>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Self>> {
        let (source, base) = if let (Some(certificate), Some(key)) = (&section.certificate, &section.certificate_key) {
            let loaded = stamp(certificate, key);
            let base = read_pair(certificate, key)?;
            warn_of_end(&base, &*clock);
            let (certificate, key) = (certificate.clone(), key.clone());
            (Source::Files(Box::new(Files { certificate, key, loaded, seen: loaded })), base)
        } else {
            let names = names::of_machine(section);
            let mut authority = Authority::open(&data, &names, &*clock)?;
            let base = match read_pair(&data.join("tls.crt"), &data.join("tls.key")) {
                Ok(kept) if is_current(&authority, &kept, &names, &*clock) => kept,
                _ => issue(&mut authority, &names, &data, &*clock)?,
            };
            (Source::Own(Box::new(authority)), base)
        };
        Ok(Arc::new(Self {
            section: section.clone(),
            data,
            clock,
            base: RwLock::new(base),
            ordered: RwLock::default(),
            challenges: RwLock::default(),
            source: Mutex::new(source),
        }))
    }

    /// What people compare and clients pin: SHA-256 of the public key of the authority where the chain shows it, else of the
    /// certificate. The command line shows the same to somebody who meets this server.
    pub(crate) fn fingerprint(&self) -> Option<Digest> {
        let base = self.base();
        let (leaf, rest) = base.cert.split_first()?;
        let issued = |authority: &&CertificateDer<'_>| verifies(leaf, rest, authority, &*self.clock);
        let pinned = rest.iter().rev().find(issued).unwrap_or(leaf);
        public_key_of(pinned).map(|key| crypto::sha256(&key))
    }

    /// Looks every few seconds until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let this = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    /// Renews or reads again where that is due.
    pub(crate) fn look(&self) {
        let mut source = self.source();
        let renewed = match &mut *source {
            Source::Own(authority) => {
                let names = names::of_machine(&self.section);
                if is_current(authority, &self.base(), &names, &*self.clock) {
                    return;
                }
                issue(authority, &names, &self.data, &*self.clock)
            }
            Source::Files(files) => {
                let now = stamp(&files.certificate, &files.key);
                // Seen alike twice: whoever writes the two files is done with both.
                let settled = std::mem::replace(&mut files.seen, now) == now;
                if !settled || now == files.loaded {
                    return;
                }
                files.loaded = now;
                read_pair(&files.certificate, &files.key)
            }
        };
        match renewed {
            Ok(new) => {
                warn_of_end(&new, &*self.clock);
                *self.base.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!("a new certificate is served from now on");
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "no new certificate: the old one is served on"),
        }
    }

    /// Serves an ordered certificate for the names in it.
    pub(crate) fn serve_ordered(&self, new: Arc<CertifiedKey>) {
        let names = new.cert.first().and_then(names_of).unwrap_or_default();
        *self.ordered.write().unwrap_or_else(PoisonError::into_inner) = Some((names, new));
    }

    /// Answers the challenge for `name` until what is returned is dropped.
    pub(crate) fn answer_challenge(self: &Arc<Self>, name: &str, answer: Arc<CertifiedKey>) -> Challenge {
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
        Challenge { certificates: Arc::clone(self), name: name.to_owned() }
    }

    fn base(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.base.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A challenge that is answered as long as this lives.
pub(crate) struct Challenge {
    certificates: Arc<Certificates>,
    name: String,
}

impl Drop for Challenge {
    fn drop(&mut self) {
        self.certificates.challenges.write().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

fn is_current(authority: &Authority, served: &CertifiedKey, names: &Names, clock: &dyn Clock) -> bool {
    let chain_is_whole = served.cert.get(1) == Some(authority.certificate());
    chain_is_whole && served.cert.first().is_some_and(|leaf| authority.is_current(leaf, names, clock))
}

fn issue(
    authority: &mut Authority,
    names: &Names,
    data: &DataDir,
    clock: &dyn Clock,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let issued = authority.issue(names, clock, data)?;
    let certified = certified(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes())?;
    // A stop between the two leaves a pair that does not belong together, for which the next start issues another.
    write_private(&data.join("tls.key"), issued.key_pem.as_bytes())?;
    write_private(&data.join("tls.crt"), issued.chain_pem.as_bytes())?;
    Ok(certified)
}

fn warn_of_end(served: &CertifiedKey, clock: &dyn Clock) {
    let Some(Ok((_, end))) = served.cert.first().map(term_of) else { return };
    let left = end - clock.now().as_seconds();
    if left < 0 {
        tracing::warn!("the certificate's term is over: clients refuse it until its files are replaced");
    } else if left < WARN_S {
        tracing::warn!(days = left / 86_400, "the certificate's term is nearly over: replace its files");
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl api::ports::Certify for Certificates {
    fn authority(&self, name: &str) -> Option<String> {
        let ordered = self.ordered.read().unwrap_or_else(PoisonError::into_inner);
        if ordered.as_ref().is_some_and(|(names, _)| names.contains(name)) {
            return None;
        }
        let Source::Own(authority) = &*self.source() else { return None };
        // Whoever stands in front and ends TLS answers to names that are none of this machine.
        let is_ours = self.base().cert.first().and_then(names_of).is_some_and(|names| names.contains(name));
        is_ours.then(|| authority.pem())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_PROTOCOL)) {
            let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner);
            return challenges.get(&name?).cloned();
        }
        let ordered = self.ordered.read().unwrap_or_else(PoisonError::into_inner);
        match (&*ordered, name) {
            (Some((names, ordered)), Some(name)) if names.contains(&name) => Some(Arc::clone(ordered)),
            // Also for a name that is not ours: the client decides, and gets nothing that a right name would not have shown.
            _ => Some(self.base()),
        }
    }
}
