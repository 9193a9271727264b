//! Validations: a plugin tries what a job would begin with, here or on a relay, for a minute at most, and what it learned is written down.
//!
//! Whatever a target answers, the credential's secret stands in no result: its values are taken out of every text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use access::ops;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use domain::{Check, Result, Secret};
use plugins::Checks;
use store::{Claim, ValidationRow, Write};
use transport::{OpenCredential, Recorder};
use wire::relay::Work;

use super::{Held, Runner, told};
use crate::reach::Errand;
use crate::remote;

/// Longest time of a validation.
const LONGEST: Duration = Duration::from_mins(1);
/// Shorter values are words like others: taking each of their occurrences out would leave nothing to read.
const VALUE_BYTES: usize = 3;
/// What a cut text ends with and a secret begins with is taken for the secret when it is as long as this.
const CUT_BYTES: usize = 4;
/// Fields of credentials that are no secret, and that help to understand what went wrong.
const OPEN: &[&str] = &[
    "access_key_id",
    "auth_protocol",
    "ca",
    "certificate",
    "context",
    "header",
    "origin",
    "privacy_protocol",
    "role_arn",
    "username",
    "version",
];

/// What must not be in a result.
#[derive(Default)]
struct Secrets(Vec<Secret>);

impl Secrets {
    fn of(credential: Option<&OpenCredential>) -> Self {
        let fields = credential
            .and_then(|credential| serde_json::from_slice::<BTreeMap<String, String>>(credential.secret.expose()).ok());
        let values = fields.into_iter().flatten().filter(|(name, _)| !OPEN.contains(&name.as_str()));
        let forms = values.flat_map(|(_, value)| {
            let encoded = [STANDARD.encode(&value), STANDARD_NO_PAD.encode(&value)];
            // Texts are one line where they come in, and so is what they hold of a value of several.
            let in_one_line = domain::one_line(&value, usize::MAX);
            encoded.into_iter().chain([value, in_one_line]).map(Secret::new)
        });
        let mut all: Vec<Secret> = forms.filter(|form| form.expose().len() >= VALUE_BYTES).collect();
        // The longest first: one that holds another would leave its rest.
        all.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        Self(all)
    }

    fn taken_out(&self, text: &str) -> String {
        let values = || self.0.iter().filter_map(Secret::expose_str);
        let mut text = values().fold(text.to_owned(), |text, value| text.replace(value, "[redacted]"));
        // Texts are cut where they come in, perhaps in the middle of a value.
        let begun = |text: &str| {
            let begins = |value: &str| {
                let longest = value.len().min(text.len());
                (CUT_BYTES..=longest)
                    .rev()
                    .find(|&length| value.get(..length).is_some_and(|begin| text.ends_with(begin)))
            };
            values().filter_map(begins).max()
        };
        if let Some(length) = begun(&text) {
            text.truncate(text.len() - length);
            text.push_str("[redacted]");
        }
        text
    }

    fn taken_out_of(&self, check: &Check) -> Check {
        let reason = check.reason.as_deref().map(|reason| self.taken_out(reason));
        Check::new(&self.taken_out(&check.what), check.outcome, reason.as_deref())
    }
}

impl Runner {
    pub(super) async fn validate(&self, claim: &Claim, held: &Held) -> Result<()> {
        let Some(row) = self.validation(claim).await?.validation_started(claim).await? else { return Ok(()) };
        let (checks, mut secrets) = (Checks::default(), Secrets::default());
        let tried = tokio::time::timeout(LONGEST, self.tried(claim, held, &row, &checks, &mut secrets)).await;
        let error = match tried {
            Ok(tried) => tried.err().map(|error| secrets.taken_out(&told(&error))),
            Err(_) => Some(format!("it took longer than {} s: not everything was tried", LONGEST.as_secs())),
        };
        let error = error.map(|error| domain::one_line(&error, 500));
        let checks: Vec<_> = checks.all().iter().map(|check| secrets.taken_out_of(check)).collect();
        self.validation(claim).await?.validation_finished(claim, &checks, error.as_deref()).await
    }

    async fn validation(&self, claim: &Claim) -> Result<Write<ops::ValidationRun>> {
        self.store.write(self.ctx(claim).authorize::<ops::ValidationRun>(claim.tenant)?).await
    }

    async fn tried(
        &self,
        claim: &Claim,
        held: &Held,
        row: &ValidationRow,
        checks: &Checks,
        secrets: &mut Secrets,
    ) -> Result<()> {
        let (ctx, errand) = (self.ctx(claim), Errand::from(row));
        let plugin = self.plugin(&row.plugin)?;
        plugin.check(&row.config)?;
        // Before the credential is opened: one that nobody can use is not used.
        let connected = row.relay.map(|relay| self.connected(relay)).transpose()?;
        let credential = self.opener.credential(&ctx, claim.tenant, errand).await?;
        *secrets = Secrets::of(credential.as_ref());
        if let Some(connected) = connected {
            let start = self.start_with(claim, errand, &connected, Work::Validate {}, credential.as_ref()).await?;
            let host_keys = self.opener.host_keys(&ctx, claim.tenant, errand);
            return remote::validate(&connected, &start, &held.over, &host_keys, checks).await;
        }
        let guard = self.opener.own_guard(&self.opener.policy(&ctx, claim.tenant).await?).await?;
        let host_keys = Arc::new(self.opener.host_keys(&ctx, claim.tenant, errand));
        let (recorder, over) = (Arc::new(Recorder::default()), held.over.clone());
        let reach = self.opener.opened(errand, credential, guard, recorder, over, host_keys)?;
        plugin.validate(&row.config, &reach, checks).await
    }
}

#[cfg(test)]
mod tests {
    use domain::CheckOutcome;

    use super::*;

    #[test]
    fn a_target_that_gives_the_secret_back_gets_it_into_no_result() {
        let fields = r#"{"username":"admin","password":"correct horse","token":"dG9rZW4","ca":"x"}"#;
        let credential = OpenCredential {
            id: domain::CredentialId::from_uuid(uuid::Uuid::nil()),
            kind: "http-basic".to_owned(),
            secret: Secret::new(fields),
        };
        let secrets = Secrets::of(Some(&credential));
        let echoed = format!("admin said `correct horse`, {} and dG9rZW4", STANDARD.encode("correct horse"));
        let check = secrets.taken_out_of(&Check::new("correct horse", CheckOutcome::Denied, Some(&echoed)));
        assert_eq!(check.what, "[redacted]");
        assert_eq!(check.reason.as_deref(), Some("admin said `[redacted]`, [redacted] and [redacted]"));
    }

    #[test]
    fn a_secret_that_is_cut_or_has_several_lines_gets_into_no_result() {
        let (token, lines) = ("tok".repeat(200), "-----BEGIN KEY-----\nabc\ndef\n-----END KEY-----\n");
        let credential = OpenCredential {
            id: domain::CredentialId::from_uuid(uuid::Uuid::nil()),
            kind: "bearer".to_owned(),
            secret: Secret::new(serde_json::json!({"token": token, "private_key": lines}).to_string()),
        };
        let secrets = Secrets::of(Some(&credential));
        let taken = |reason: &str| {
            let check = Check::new("GET /", CheckOutcome::Failed, Some(reason));
            secrets.taken_out_of(&check).reason.unwrap()
        };
        // The cut is in the middle of the token.
        assert_eq!(taken(&format!("unexpected answer: {token}")), "unexpected answer: [redacted]");
        assert_eq!(taken(&format!("unexpected answer: {lines}and more")), "unexpected answer: [redacted] and more");
        assert_eq!(taken(&format!("{}tokto", "x".repeat(295))), format!("{}[reda", "x".repeat(295)));
        assert_eq!(taken("it is locked"), "it is locked");
    }
}
