//! Where audit records are sent, for those who manage the platform. The configuration says where to; here is told how it goes.

use access::ops;
use axum::Json;
use axum::extract::State;
use store::ForwardPlace;
use wire::List;
use wire::forward::{Forward, ForwardLog};

use crate::caller::Caller;
use crate::page;
use crate::problem::Answer;
use crate::state::ApiState;

/// A place that audit records are sent to, as it is configured. Neither its token nor anything else that is secret.
#[derive(Debug, Clone)]
pub struct ForwardSettings {
    /// Its name.
    pub name: String,
    /// `syslog` or `splunk-hec`.
    pub kind: &'static str,
    /// Where it is, as configured.
    pub url: String,
    /// How a record is written.
    pub format: String,
    /// Slugs of tenants, `platform`, or `*` for all.
    pub logs: Vec<String>,
}

impl ForwardSettings {
    fn wants(&self, log: &str) -> bool {
        self.logs.iter().any(|wanted| wanted == "*" || wanted == log)
    }

    /// Scheme, host and port: what stands before or behind them may be a secret.
    fn address(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", self.url.as_str()));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = authority.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{place}")
    }

    fn document(&self, places: &[ForwardPlace]) -> Forward {
        let logs: Vec<ForwardLog> = places.iter().filter(|place| place.forward == self.name).map(log).collect();
        let worst = logs.iter().filter(|log| log.failures > 0).max_by_key(|log| log.failures);
        Forward {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            address: self.address(),
            format: self.format.clone(),
            delivered: logs.iter().map(|log| log.delivered).sum(),
            waiting: logs.iter().map(|log| log.waiting).sum(),
            failures: worst.map_or(0, |log| log.failures),
            error: worst.and_then(|log| log.error.clone()),
            delivered_at: logs.iter().filter_map(|log| log.delivered_at).max(),
            logs,
        }
    }
}

fn log(place: &ForwardPlace) -> ForwardLog {
    ForwardLog {
        log: place.log.clone(),
        delivered: place.delivered,
        waiting: place.size.saturating_sub(place.delivered),
        failures: place.failures,
        // It may hold words of whoever answered.
        error: place.error.as_deref().map(|error| redact::redact(error).into_owned()),
        delivered_at: place.delivered_at,
    }
}

/// Where audit records are sent, and how far each place has come. Where to is said by the configuration (`[[audit.forward]]`) of the server that answers.
#[utoipa::path(get, path = "/api/v1/audit-forwards", tag = "audit", responses((status = 200, description = "places", body = List<Forward>)))]
pub(crate) async fn forward_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Forward>>> {
    let permit = caller.platform_permit::<ops::ForwardList>().await?;
    let settings = &state.settings.forwards;
    let names: Vec<&str> = settings.iter().map(|forward| forward.name.as_str()).collect();
    let wants = |name: &str, log: &str| settings.iter().any(|forward| forward.name == name && forward.wants(log));
    let places = state.store.forward_list(permit, &names, wants).await?;
    Ok(page::whole(settings.iter().map(|forward| forward.document(&places)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As collectors of Splunk have them.
    const TOKEN: &str = "12345678-90ab-cdef-1234-567890abcdef";

    fn settings(url: &str) -> ForwardSettings {
        let logs = vec!["platform".to_owned()];
        ForwardSettings {
            name: "siem".to_owned(),
            kind: "splunk-hec",
            url: url.to_owned(),
            format: "jsonl".to_owned(),
            logs,
        }
    }

    #[test]
    fn of_an_address_only_where_it_is_is_told() {
        for (url, told) in [
            ("tls://siem.example:6514", "tls://siem.example:6514"),
            ("https://user:pass@splunk.example:8088/services/collector?token=x", "https://splunk.example:8088"),
            ("https://a@b@[2001:db8::1]:8088/x", "https://[2001:db8::1]:8088"),
            ("https://splunk.example?token=x", "https://splunk.example"),
        ] {
            assert_eq!(settings(url).address(), told);
        }
    }

    #[test]
    fn a_place_is_as_well_as_the_worst_of_its_logs() {
        let place = |log: &str, delivered, failures, at| ForwardPlace {
            forward: "siem".to_owned(),
            log: log.to_owned(),
            size: 10,
            delivered,
            failures,
            error: (failures > 0).then(|| format!("{log} was refused: Authorization: Splunk {TOKEN}")),
            delivered_at: Some(domain::Timestamp::from_millis(at)),
        };
        let other = ForwardPlace { forward: "other".to_owned(), ..place("c", 0, 99, 9_000) };
        let told = settings("tls://a:1").document(&[place("a", 10, 0, 2_000), place("b", 4, 3, 1_000), other]);
        assert_eq!((told.delivered, told.waiting, told.failures), (14, 6, 3));
        let error = told.error.unwrap_or_default();
        assert!(error.starts_with("b was refused") && !error.contains(TOKEN), "{error}");
        assert_eq!(told.delivered_at, Some(domain::Timestamp::from_millis(2_000)));
        assert_eq!(told.logs.len(), 2);
        let nothing = settings("tls://a:1").document(&[]);
        assert_eq!((nothing.waiting, nothing.failures, nothing.error, nothing.delivered_at), (0, 0, None, None));
    }
}
