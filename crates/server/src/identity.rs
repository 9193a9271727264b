//! Identity providers: the client that they are asked with, and asking them again while their users are signed in.

use std::time::Duration;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_util::sync::CancellationToken;
use transport::{Guard, WebClient, WebConfig};

use crate::config::IdentitySection;

/// How often it is looked whether somebody has to be asked about.
const EVERY: Duration = Duration::from_mins(1);

/// The client for identity providers.
pub(crate) fn client(config: &IdentitySection) -> anyhow::Result<WebClient> {
    let extra_roots = match &config.ca_file {
        None => Vec::new(),
        Some(path) => {
            let shown = path.display();
            let all = CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read `{shown}`"))?;
            let all: Vec<_> = all.collect::<Result<_, _>>().with_context(|| format!("`{shown}` is not PEM"))?;
            anyhow::ensure!(!all.is_empty(), "`{shown}` holds no certificate");
            all
        }
    };
    Ok(WebClient::new(WebConfig { guard: Guard::loopback(config.loopback), extra_roots, ..WebConfig::default() })?)
}

/// Asks the providers until the server stops. A failure is logged, and tried again a minute later.
pub(crate) async fn check(state: api::ApiState, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        // Not cut off in the middle, which could lose a refresh token that was just renewed; it ends early when the server drains.
        match api::recheck(&state).await {
            Ok(0) => {}
            Ok(asked) => tracing::info!(asked, "asked identity providers about their users"),
            Err(error) => tracing::error!(error = format!("{error:?}"), "identities cannot be checked"),
        }
    }
}
