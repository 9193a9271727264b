//! From a job's plugin, settings and credential to what its task may reach. Called where the task runs: on a server or on a relay.
//!
//! **Not for** fetching the credential from the vault or writing its use into the audit log: who calls this did both.

use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, CredentialId, Rng, Secret};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::aws::{AwsClient, AwsConfig, AwsCredentials, Pacer};
use crate::budget::Budget;
use crate::guard::Guard;
use crate::host_keys::HostKeys;
#[cfg(feature = "ssh")]
use crate::ssh::{SshClient, SshConfig, SshCredentials};
use crate::{
    AwsReach, CallError, HostReach, HttpClient, HttpConfig, HttpCredential, HttpReach, LocalHost, Reach, Recorder,
    ScanReach, Scanner, SnmpClient, SnmpConfig, SnmpCredentials, SnmpReach, SshReach,
};

/// The fields of a kind of credential. Their values make the JSON object that is sealed.
#[derive(Debug, Clone, Copy)]
pub struct CredentialType {
    /// Its name in commands.
    pub name: &'static str,
    /// Fields that it must have.
    pub required: &'static [&'static str],
    /// Fields that it may have.
    pub optional: &'static [&'static str],
}

/// Fields that are texts of several lines, as of PEM.
pub const SEVERAL_LINES: &[&str] = &["private_key", "certificate", "ca"];

/// Every kind of credential that something here can use.
pub const CREDENTIAL_TYPES: &[CredentialType] = &[
    CredentialType {
        name: "aws-keys",
        required: &["access_key_id", "secret_access_key"],
        optional: &["session_token"],
    },
    CredentialType {
        name: "aws-assume-role",
        required: &["access_key_id", "secret_access_key", "role_arn"],
        optional: &["session_token", "external_id"],
    },
    #[cfg(feature = "ssh")]
    CredentialType { name: "ssh-password", required: &["username", "password"], optional: &[] },
    #[cfg(feature = "ssh")]
    CredentialType { name: "ssh-key", required: &["username", "private_key"], optional: &["passphrase"] },
    #[cfg(feature = "ssh")]
    CredentialType {
        name: "ssh-cert",
        required: &["username", "private_key", "certificate"],
        optional: &["passphrase"],
    },
    CredentialType { name: "snmp-community", required: &["community"], optional: &["version"] },
    CredentialType {
        name: "snmp-v3",
        required: &["username"],
        optional: &["auth_protocol", "auth_password", "privacy_protocol", "privacy_password", "context"],
    },
    CredentialType { name: "http-bearer", required: &["origin", "token"], optional: &["ca"] },
    CredentialType { name: "http-basic", required: &["origin", "username", "password"], optional: &["ca"] },
    CredentialType { name: "http-header", required: &["origin", "header", "value"], optional: &["ca"] },
];

/// A credential out of the vault, for one task.
#[derive(Debug)]
pub struct OpenCredential {
    /// Its id, for records.
    pub id: CredentialId,
    /// One of [`CREDENTIAL_TYPES`].
    pub kind: String,
    /// The JSON object of its fields; wiped when it is dropped.
    pub secret: Secret,
}

/// What a task's reach is made of.
pub struct Opening<'a> {
    /// The job's plugin.
    pub plugin: &'a str,
    /// The job's settings, checked by the plugin.
    pub config: &'a Map<String, Value>,
    /// The job's credential, where it has one.
    pub credential: Option<OpenCredential>,
    /// Which special addresses may be targets.
    pub guard: Guard,
    /// Longest time for one call, from connecting to its last byte.
    pub call_timeout: Duration,
    /// The rates that all tasks of this process share.
    pub pacer: Arc<Pacer>,
    /// The process's memory for answers of SSH and SNMP targets, of which the task has a share.
    pub memory: &'a Budget,
    /// Takes the record of each call.
    pub recorder: Arc<Recorder>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Ends the task.
    pub cancelled: CancellationToken,
    /// Where host keys are remembered, for jobs that trust a first contact.
    pub host_keys: Arc<dyn HostKeys>,
}

/// The reach of one task; what it holds of a credential dies with it.
pub struct TaskReach {
    aws: Option<AwsClient>,
    host: Option<LocalHost>,
    ssh: Option<Box<dyn SshReach>>,
    http: Option<HttpClient>,
    snmp: Option<SnmpClient>,
    scan: Option<Scanner>,
    credential: Option<CredentialId>,
    cancelled: CancellationToken,
}

/// Opens the reach of a task: one arm for each kind of credential, and one for each plugin that needs none.
pub fn open(job: Opening<'_>) -> Result<TaskReach, CallError> {
    let mut reach = TaskReach {
        aws: None,
        host: None,
        ssh: None,
        http: None,
        snmp: None,
        scan: None,
        credential: job.credential.as_ref().map(|credential| credential.id),
        cancelled: job.cancelled,
    };
    match &job.credential {
        Some(OpenCredential { kind, secret, .. }) => match kind.as_str() {
            "aws-keys" | "aws-assume-role" => {
                let credentials = AwsCredentials::from_secret_json(secret)?;
                let mut config = AwsConfig::from_settings(job.config, job.guard)?;
                config.call_timeout = job.call_timeout;
                let client = AwsClient::new(credentials, config, job.pacer, job.recorder, job.clock, job.rng)?;
                reach.aws = Some(client);
            }
            #[cfg(feature = "ssh")]
            "ssh-password" | "ssh-key" | "ssh-cert" => {
                let credentials = SshCredentials::from_secret_json(kind, secret)?;
                let config = SshConfig::from_settings(job.config, job.call_timeout)?;
                let client = SshClient::new(credentials, config, job.guard, job.recorder, job.clock, job.rng);
                let client = client.remembering(job.host_keys).drawing_on(job.memory);
                reach.ssh = Some(Box::new(client));
            }
            "snmp-community" | "snmp-v3" => {
                let credentials = SnmpCredentials::from_secret_json(kind, secret)?;
                let config = SnmpConfig::from_settings(job.config, job.call_timeout)?;
                let client = SnmpClient::new(credentials, config, job.guard, job.recorder, job.clock, job.rng);
                reach.snmp = Some(client.drawing_on(job.memory));
            }
            "http-bearer" | "http-basic" | "http-header" => {
                let config = HttpConfig { guard: job.guard, call_timeout: job.call_timeout, ..HttpConfig::default() };
                let credential = Some(HttpCredential::from_secret_json(secret)?);
                reach.http = Some(HttpClient::new(credential, config, job.recorder, job.clock, job.rng)?);
            }
            other => {
                let shown = other.escape_debug();
                return Err(CallError::Credential(format!("this program cannot use a credential of type `{shown}`")));
            }
        },
        None if job.plugin == "host" => {
            reach.host = Some(LocalHost::new(job.clock, job.recorder, "local".to_owned()));
        }
        None if job.plugin == "network-scan" => reach.scan = Some(Scanner::new(job.guard, job.clock, job.recorder)),
        None => {
            let config = HttpConfig { guard: job.guard, call_timeout: job.call_timeout, ..HttpConfig::default() };
            reach.http = Some(HttpClient::new(None, config, job.recorder, job.clock, job.rng)?);
        }
    }
    Ok(reach)
}

impl Reach for TaskReach {
    fn aws(&self) -> Option<&dyn AwsReach> {
        self.aws.as_ref().map(|client| client as &dyn AwsReach)
    }

    fn host(&self) -> Option<&dyn HostReach> {
        self.host.as_ref().map(|host| host as &dyn HostReach)
    }

    fn ssh(&self) -> Option<&dyn SshReach> {
        self.ssh.as_deref()
    }

    fn http(&self) -> Option<&dyn HttpReach> {
        self.http.as_ref().map(|client| client as &dyn HttpReach)
    }

    fn snmp(&self) -> Option<&dyn SnmpReach> {
        self.snmp.as_ref().map(|client| client as &dyn SnmpReach)
    }

    fn scan(&self) -> Option<&dyn ScanReach> {
        self.scan.as_ref().map(|scan| scan as &dyn ScanReach)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use testkit::{TestClock, TestRng};

    use super::*;

    fn opened(plugin: &str, credential: Option<(&str, &str)>) -> Result<TaskReach, CallError> {
        open(Opening {
            plugin,
            config: &Map::new(),
            credential: credential.map(|(kind, secret)| OpenCredential {
                id: CredentialId::generate(&TestClock::default(), &TestRng::default()),
                kind: kind.to_owned(),
                secret: Secret::new(secret),
            }),
            guard: Guard::default(),
            call_timeout: Duration::from_secs(1),
            pacer: Arc::default(),
            memory: &Budget::default(),
            recorder: Arc::default(),
            clock: Arc::new(TestClock::default()),
            rng: Arc::new(TestRng::default()),
            cancelled: CancellationToken::new(),
            host_keys: Arc::new(crate::NoHostKeys),
        })
    }

    #[tokio::test]
    async fn a_task_reaches_what_its_credential_is_for_and_nothing_else() {
        let keys = r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret"}"#;
        let reach = opened("aws", Some(("aws-keys", keys))).unwrap();
        assert!(reach.aws().is_some() && reach.host().is_none() && reach.credential().is_some());
        let reach = opened("host", None).unwrap();
        assert!(reach.aws().is_none() && reach.host().is_some() && reach.credential().is_none());
        let reach = opened("other", None).unwrap();
        assert!(reach.aws().is_none() && reach.host().is_none());
        let refused = opened("aws", Some(("aws-moon", keys))).err().unwrap().to_string();
        assert!(refused.contains("`aws-moon`") && !refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn every_kind_of_credential_has_an_arm() {
        for kind in CREDENTIAL_TYPES {
            let error = opened("any", Some((kind.name, "{}"))).err().unwrap().to_string();
            assert!(!error.contains("cannot use"), "{}: {error}", kind.name);
        }
    }
}
