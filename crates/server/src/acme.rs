//! A certificate from an ACME server (RFC 8555), proven over the port that is listened on anyway (TLS-ALPN-01, RFC 8737) and renewed when
//! the server suggests it (RFC 9773), else after two thirds of its term.
//!
//! **Not for** serving it: `certificate` does, and while there is none it serves the one of this installation's own authority.
//!
//! Invariants:
//! - the account's key and the certificate's keys are files of their owner only, and no other program ever has them;
//! - a certificate is served when it is for the names that were ordered, within its term, and of the key that was made for it;
//! - what fails changes nothing: the old certificate is served on, and the next try is later than the last one was.

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use domain::{Clock, Digest};
use http_body_util::{BodyExt as _, Collected};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, CertificateIdentifier, ChallengeType,
    Error, ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use transport::Guard;
use transport::web::{WebClient, WebConfig, WebRequest};
use zeroize::Zeroizing;

use crate::authority::{names_of, term_of};
use crate::certificate::{Certificates, certified};
use crate::config::Config;
use crate::datadir::{DataDir, read_private, write_private};
use crate::names::Names;

/// First wait after a failure; each further one doubles it.
const RETRY: Duration = Duration::from_mins(1);
/// Longest wait between two tries, and between two looks at the suggested time of renewal.
const LOOK: Duration = Duration::from_hours(6);

/// Orders and renews.
pub(crate) struct Acme {
    directory: String,
    contact: Vec<String>,
    /// The id and the key's file of an account that the server's operator has there already.
    external: Option<(String, PathBuf)>,
    names: Vec<String>,
    data: Arc<DataDir>,
    certificates: Arc<Certificates>,
    clock: Arc<dyn Clock>,
    web: WebClient,
    retries: RetryPolicy,
    account: Option<Account>,
    /// The certificate that is served, and since when it is to be renewed: asked once, and again after [`LOOK`].
    served: Option<CertificateDer<'static>>,
}

/// `acme-account.json`.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

/// Outgoing calls by the one client that there is, with its guards and bounds.
struct Web(WebClient);

impl HttpClient for Web {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await.map(Collected::to_bytes);
            let failed = |error| Error::Other(Box::new(error));
            let mut request = WebRequest::new(parts.method, &parts.uri.to_string()).map_err(failed)?;
            if !body.is_empty() {
                request = request.body("application/jose+json", body);
            }
            let reply = client.send(request).await.map_err(failed)?;
            let mut response = http::Response::new(());
            *response.status_mut() = reply.status;
            *response.headers_mut() = reply.headers;
            Ok(BytesResponse { parts: response.into_parts().0, body: Box::new(reply.body) })
        })
    }
}

/// The names of the configuration that can be proven over TLS: no addresses, no wildcards.
pub(crate) fn orderable(names: &[String]) -> Vec<String> {
    let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
    let mut names: Vec<String> = names
        .iter()
        .filter(|name| !is_address(name) && !name.starts_with('*') && name.contains('.'))
        .map(|name| name.to_ascii_lowercase())
        .collect();
    names.sort();
    names.dedup();
    names
}

impl Acme {
    /// Prepares, and serves the certificate of an earlier run where it is still good. `None`: the configuration names no ACME server.
    pub(crate) fn open(
        config: &Config,
        data: Arc<DataDir>,
        certificates: Arc<Certificates>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(directory) = config.acme.directory.clone() else { return Ok(None) };
        let extra_roots = match &config.acme.roots {
            None => Vec::new(),
            Some(path) => CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .with_context(|| format!("acme.roots: `{}` is not PEM certificates", path.display()))?,
        };
        // Only an ACME server that was configured to be on this machine may be on this machine.
        let loopback = is_loopback(&directory);
        let web = WebClient::new(WebConfig {
            guard: Guard::loopback(loopback),
            extra_roots,
            timeout: Duration::from_secs(30),
            ..WebConfig::default()
        })?;
        let mut acme = Self {
            directory,
            contact: config.acme.contact.iter().map(|address| format!("mailto:{address}")).collect(),
            external: config.acme.eab_key_id.clone().zip(config.acme.eab_key_file.clone()),
            names: orderable(&config.server.names),
            data,
            certificates,
            clock,
            web,
            retries: RetryPolicy::new().timeout(Duration::from_mins(2)),
            account: None,
            served: None,
        };
        match acme.kept() {
            Ok(Some(kept)) => acme.serve(kept),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the ordered certificate is ordered again"),
        }
        Ok(Some(acme))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    fn kept(&self) -> anyhow::Result<Option<Arc<CertifiedKey>>> {
        if !self.path("acme.crt").exists() {
            return Ok(None);
        }
        let kept =
            certified(&std::fs::read(self.path("acme.crt"))?, &Zeroizing::new(read_private(&self.path("acme.key"))?))?;
        self.check(&kept)?;
        Ok(Some(kept))
    }

    /// For the names that are ordered, and within its term.
    fn check(&self, certified: &CertifiedKey) -> anyhow::Result<()> {
        let leaf = certified.cert.first().context("the chain is empty")?;
        let names: Names = self.names.iter().cloned().collect();
        if names_of(leaf).as_ref() != Some(&names) {
            bail!("the certificate is for other names than `server.names`");
        }
        let ((from, until), now) = (term_of(leaf)?, self.clock.now().as_seconds());
        if now < from || now >= until {
            bail!("the certificate is not within its term: check the clock");
        }
        Ok(())
    }

    fn serve(&mut self, certified: Arc<CertifiedKey>) {
        self.served = certified.cert.first().map(|leaf| leaf.clone().into_owned());
        self.certificates.serve_ordered(certified);
    }

    /// Orders and renews until `stop`.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                step = self.step() => match step {
                    Ok(wait) => {
                        failures = 0;
                        wait
                    }
                    Err(error) => {
                        let wait = after_failure(failures);
                        failures += 1;
                        let retry_s = wait.as_secs();
                        tracing::error!(error = format!("{error:#}"), retry_s, "no certificate from the ACME server");
                        wait
                    }
                },
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Orders a certificate where one is due; how long to wait for the next look.
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let now = self.clock.now().as_seconds();
        let due = match self.served.clone() {
            None => now,
            Some(served) => self.renewal(&served).await?,
        };
        if due > now {
            return Ok(LOOK.min(Duration::from_secs((due - now).unsigned_abs())));
        }
        let account = self.account().await?;
        let certified = self.order(&account).await?;
        self.serve(certified);
        tracing::info!(names = self.names.join(" "), "a certificate from the ACME server is served");
        Ok(Duration::ZERO)
    }

    /// When a certificate is to be renewed, in seconds since 1970: at a moment of the window that the server suggests, always the same one
    /// for a certificate (RFC 9773 section 4.2), and never later than after two thirds of its term where the server suggests none.
    async fn renewal(&mut self, served: &CertificateDer<'_>) -> anyhow::Result<i64> {
        let (from, until) = term_of(served)?;
        let two_thirds = from + (until - from) / 3 * 2;
        let Ok(id) = CertificateIdentifier::try_from(served) else { return Ok(two_thirds) };
        let suggested = match self.account().await {
            Ok(account) => account.renewal_info(&id).await.map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        match suggested {
            Ok((info, _)) => {
                let window = info.suggested_window;
                let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
                Ok(within(crypto::sha256(served), start, end).min(until - 3_600))
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no suggested time of renewal");
                Ok(two_thirds)
            }
        }
    }

    /// The account of this installation, made at the first call.
    async fn account(&mut self) -> anyhow::Result<Account> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let (path, builder) =
            (self.path("acme-account.json"), Account::builder_with_http(Box::new(Web(self.web.clone()))));
        let kept = if path.exists() {
            let text = Zeroizing::new(read_private(&path)?);
            let kept: Kept = serde_json::from_slice(&text)
                .with_context(|| format!("`{}` is no account: move it away to have a new one", path.display()))?;
            Some(kept).filter(|kept| kept.directory == self.directory)
        } else {
            None
        };
        let account = if let Some(kept) = kept {
            builder.from_credentials(kept.credentials).await.context("the ACME account cannot be used")?
        } else {
            let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
            let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let external = self.external.as_ref().map(|(id, file)| external_key(id, file)).transpose()?;
            let made = builder.create(&new, self.directory.clone(), external.as_ref()).await;
            let (account, credentials) = made.context("no ACME account can be made")?;
            let kept = Kept { directory: self.directory.clone(), credentials };
            write_private(&path, &Zeroizing::new(serde_json::to_vec(&kept)?))?;
            account
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    async fn order(&self, account: &Account) -> anyhow::Result<Arc<CertifiedKey>> {
        let identifiers: Vec<Identifier> = self.names.iter().cloned().map(Identifier::Dns).collect();
        let replaced = self.served.as_ref().and_then(|served| CertificateIdentifier::try_from(served).ok());
        let plain = || NewOrder::new(&identifiers);
        let ordered = match replaced {
            // A server that does not know the replaced one refuses to be told of it.
            Some(replaced) => match account.new_order(&plain().replaces(replaced.into_owned())).await {
                Err(Error::Unsupported(_) | Error::Api(_) | Error::Other(_)) => account.new_order(&plain()).await,
                ordered => ordered,
            },
            None => account.new_order(&plain()).await,
        };
        let mut order = ordered.context("the order is refused")?;
        let (mut answers, mut invalid) = (Vec::new(), false);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => {
                    invalid = true;
                    break;
                }
            }
            let Identifier::Dns(name) = authorization.identifier().identifier.clone() else {
                bail!("the ACME server asks about something that was not ordered")
            };
            if !self.names.contains(&name) {
                bail!("the ACME server asks about `{}`, which was not ordered", name.escape_debug());
            }
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .context("the ACME server offers no tls-alpn-01 challenge")?;
            let answer = challenge_answer(&name, challenge.key_authorization().digest().as_ref())?;
            answers.push(self.certificates.answer_challenge(&name, answer));
            challenge.set_ready().await.with_context(|| format!("`{name}`"))?;
        }
        if invalid {
            bail!("{}", why_invalid(&mut order).await);
        }
        if !matches!(order.state().status, OrderStatus::Ready | OrderStatus::Valid) {
            let proven = order.poll_ready(&self.retries).await;
            if !matches!(proven, Ok(OrderStatus::Ready)) {
                let why = why_invalid(&mut order).await;
                return Err(proven
                    .err()
                    .map_or_else(|| anyhow::anyhow!("the order is invalid"), Into::into)
                    .context(why));
            }
        }
        drop(answers);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key)?.der()).await.context("the request is refused")?;
        let chain = order.poll_certificate(&self.retries).await.context("no certificate is issued")?;
        let key = Zeroizing::new(key.serialize_pem());
        let certified = certified(chain.as_bytes(), key.as_bytes())?;
        self.check(&certified)?;
        // A stop between the two leaves a pair that does not belong together, and the next start orders again.
        write_private(&self.path("acme.key"), key.as_bytes())?;
        write_private(&self.path("acme.crt"), chain.as_bytes())?;
        Ok(certified)
    }
}

fn external_key(id: &str, file: &Path) -> anyhow::Result<ExternalAccountKey> {
    let text = Zeroizing::new(read_private(file)?);
    let key = URL_SAFE_NO_PAD.decode(text.trim_ascii()).map(Zeroizing::new);
    let key = key.with_context(|| format!("acme.eab_key_file: `{}` is not base64url", file.display()))?;
    Ok(ExternalAccountKey::new(id.to_owned(), &key))
}

/// What the server says about the names that it could not prove.
async fn why_invalid(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let _ = authorization.refresh().await;
        for problem in authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
            let text = problem.detail.clone().unwrap_or_default();
            reasons.push(format!("`{}`: {}", authorization.identifier(), text.escape_debug()));
        }
    }
    if reasons.is_empty() { "the names could not be proven".to_owned() } else { reasons.join("; ") }
}

/// The certificate that proves a name (RFC 8737 section 3).
fn challenge_answer(name: &str, digest: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let made = params.self_signed(&key)?;
    // No other check of the pair would do: the extension is critical and known to ACME servers only.
    let secret = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let signer = crypto::tls::provider().key_provider.load_private_key(secret)?;
    Ok(Arc::new(CertifiedKey::new(vec![made.der().clone()], signer)))
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A moment of a window, told by the certificate.
fn within(certificate: Digest, start: i64, end: i64) -> i64 {
    let [a, b, ..] = certificate.0;
    let part = i64::from(u16::from_be_bytes([a, b]));
    start + (end - start).max(0) / 65_536 * part
}

fn after_failure(failures: u32) -> Duration {
    RETRY.saturating_mul(2_u32.saturating_pow(failures)).min(LOOK)
}
