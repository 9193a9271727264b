//! The way to a host through its relay without the server between, where the relay has one.

use std::time::Duration;

use domain::DestinationId;
use reqwest::StatusCode;
use wire::ssh_access::{SshWay, UPGRADE, way_path};

use crate::client::not_ours;
use crate::failure::{Failure, Result};
use crate::trust;

/// How long somebody who is not in the relay's network waits for it.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the relay may take: it asks the server in between.
const SWITCH: Duration = Duration::from_secs(20);
/// Longest reason that is shown, in characters.
const REASON_CHARS: usize = 300;

/// A connection that the relay switched; none where it is not reached there, and the token is not used: then there is the way through the server.
pub(crate) async fn switch(way: &SshWay, destination: DestinationId, token: &str) -> Result<Option<reqwest::Upgraded>> {
    let broken = |error: &dyn std::fmt::Display| Failure::new(format!("cannot set up TLS to {}: {error}", way.address));
    trust::provider();
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")));
    if !way.authority.is_empty() {
        let authorities = reqwest::Certificate::from_pem_bundle(way.authority.as_bytes()).map_err(|_| not_ours())?;
        builder = builder.tls_certs_only(authorities);
    }
    let http = builder.build().map_err(|error| broken(&error))?;
    let asked = http
        .get(format!("https://{}{}", way.address, way_path(destination)))
        .bearer_auth(token)
        .header("connection", "Upgrade")
        .header("upgrade", UPGRADE)
        .send();
    let asked = tokio::time::timeout(SWITCH, asked).await;
    let asked = asked.map_err(|_| Failure::new(format!("{} does not answer in time", way.address)).transient())?;
    let response = match asked {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(Failure::new(format!("{} broke the connection: {error}", way.address)).transient()),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let switched = response.upgrade().await;
        return switched.map(Some).map_err(|error| Failure::new(format!("{}: {error}", way.address)));
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let text: String = text.chars().filter(|it| !it.is_control()).take(REASON_CHARS).collect();
    Err(Failure::new(if text.is_empty() { format!("the host's relay answered {status}") } else { text }))
}
