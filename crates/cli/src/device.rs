//! Signing in through a browser (RFC 8628): this machine shows a code, a person types it into the server's page, this machine fetches its
//! session.
//!
//! Invariant: the device's code goes to the server only, and is shown to nobody.

use std::time::{Duration, Instant};

use wire::cli_session::{CliSessionCreated, DeviceCodeCreate, DeviceCodeCreated, DeviceTokenCreate};

use crate::client::{Client, not_ours};
use crate::failure::{Failure, Result};
use crate::output::tell;

/// Whatever a server says, it is not asked more often than this, and not less often.
const INTERVAL_S: std::ops::RangeInclusive<u32> = 1..=60;
/// What `slow_down` adds.
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// What this is, for the person who approves it.
pub(crate) fn client_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
    format!("cairn {}{on}", env!("CARGO_PKG_VERSION"))
}

/// Shows the code and waits until somebody decided.
pub(crate) async fn sign_in(client: &Client) -> Result<CliSessionCreated> {
    let body = DeviceCodeCreate { client: client_name() };
    let begun = client.post(&["device-codes"], Some(&body)).await?;
    let begun: DeviceCodeCreated = begun.parse().map_err(|_| not_ours())?;
    if !begun.verification_uri.starts_with('/') {
        return Err(not_ours());
    }
    for line in [
        format!("Open {}{} in a browser and type the code", client.server(), begun.verification_uri),
        format!("  {}", begun.user_code),
        format!("Waiting up to {} minutes for somebody to approve it.", begun.expires_in.div_ceil(60)),
    ] {
        tell(&line);
    }
    let until = Instant::now() + Duration::from_secs(begun.expires_in.into());
    let mut interval = Duration::from_secs(begun.interval.clamp(*INTERVAL_S.start(), *INTERVAL_S.end()).into());
    let body = DeviceTokenCreate { device_code: begun.device_code };
    while Instant::now() < until {
        tokio::time::sleep(interval).await;
        match client.post(&["device-tokens"], Some(&body)).await {
            Ok(answer) => return answer.parse().map_err(|_| not_ours()),
            Err(failure) => match failure.code.as_deref() {
                Some("authorization_pending") => {}
                Some("slow_down") => interval += SLOW_DOWN,
                Some("access_denied") => return Err(Failure::new("the sign-in was denied in the browser")),
                Some("expired_token") => break,
                // A server that restarts, or a connection that broke.
                _ if failure.transient => {}
                _ => return Err(failure),
            },
        }
    }
    Err(Failure::new("nobody approved the sign-in in time").hint("try again: cairn login --device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_is_called_is_a_name_that_the_server_takes() {
        let name = client_name();
        assert!(name.parse::<domain::DisplayName>().is_ok() && name.starts_with("cairn "), "{name}");
    }
}
