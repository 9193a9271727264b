//! `plugin.toml`: what a plugin is, what it may be told, and which calls it needs.

use std::collections::BTreeSet;

use domain::{CredentialId, Error, NodeType, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use transport::https::origin;

/// The file's name in a plugin's folder.
pub(crate) const FILE: &str = "plugin.toml";
/// Largest file, in bytes.
pub(crate) const FILE_BYTES: u64 = 256 * 1_024;
/// The version of the protocol that this program speaks.
const PROTOCOL: u32 = 1;
/// Credential types that a plugin's calls can be made with.
const CREDENTIAL_TYPES: &[&str] = &["aws-keys", "aws-assume-role", "http-bearer", "http-basic", "http-header"];
/// Longest text of a setting, in bytes.
const SETTING_BYTES: usize = 4_096;

/// A manifest that was read and checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the protocol: 1.
    protocol: u32,
    /// In commands, node ids, node types and scopes.
    pub name: String,
    /// The plugin's version, part of every collection's signed statement.
    pub version: String,
    /// One line.
    pub about: String,
    /// What to run: a program of the folder, or one of a runtime, and its arguments. An argument that names a file of the folder becomes its
    /// whole path.
    pub(crate) exec: Vec<String>,
    /// Types of nodes that it can show, each beginning with its name and a dot.
    pub node_types: Vec<String>,
    /// Credential types that it can use; empty when it needs none.
    #[serde(default)]
    pub credential_types: Vec<String>,
    /// Whether it answers `Diff`.
    #[serde(default)]
    pub(crate) diff: bool,
    /// What a job may tell it.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// What it may use.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Which calls it needs. What is not listed is refused.
    #[serde(default)]
    pub(crate) calls: Vec<CallRule>,
}

/// What a setting's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Any text.
    #[default]
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Scheme, host and port: where calls may go.
    Origin,
}

/// A setting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// What it does, with unit and default.
    pub help: String,
    /// An example.
    pub example: String,
    /// What its value is.
    #[serde(default, rename = "type")]
    pub kind: Kind,
    /// Whether a job has to give it.
    #[serde(default)]
    pub required: bool,
    /// The values that it can have, where they are few.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// Whether it says what is read: jobs that differ in it never close what the other showed. Without any such setting, all are.
    #[serde(default)]
    pub(crate) source: bool,
}

/// What a run may use.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Longest run, in seconds; 1 to 3,600.
    pub(crate) run_s: u64,
    /// Most processor time, in seconds; 1 to 3,600.
    pub(crate) cpu_s: u64,
    /// Most memory, in MiB; 16 to 4,096.
    pub(crate) memory_mib: u64,
    /// Most calls; 1 to 100,000.
    pub(crate) calls: u64,
    /// Longest silence, in seconds; 1 to 600.
    pub(crate) silence_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run_s: 300, cpu_s: 60, memory_mib: 256, calls: 1_000, silence_s: 60 }
    }
}

/// Calls that belong together.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallRule {
    /// What for, told to who installs the plugin.
    pub(crate) why: String,
    pub(crate) http: Option<HttpRule>,
    pub(crate) aws: Option<AwsRule>,
}

/// Calls of an HTTPS service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpRule {
    /// `https://host[:port]`, or `{setting}`.
    pub(crate) origin: String,
    pub(crate) methods: Vec<String>,
    /// Paths; `*` stands for one segment, `**` at the end for any number of them.
    pub(crate) paths: Vec<String>,
}

/// How a service of AWS is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AwsProtocol {
    /// A form with `Action` and `Version`.
    Query,
    /// JSON with `X-Amz-Target`.
    Json,
}

/// Calls of one AWS service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AwsRule {
    pub(crate) service: String,
    pub(crate) protocol: AwsProtocol,
    /// Query: the API's version. JSON: `1.0` or `1.1`.
    pub(crate) version: String,
    /// JSON: what stands before the operation in `X-Amz-Target`.
    #[serde(default)]
    pub(crate) target: String,
    /// Where the host's name begins differently from the service's.
    pub(crate) endpoint_prefix: Option<String>,
    /// Whether the partition has one endpoint.
    #[serde(default)]
    pub(crate) global: bool,
    pub(crate) operations: Vec<String>,
}

fn wrong(why: impl std::fmt::Display) -> Error {
    Error::Invalid { field: None, message: format!("{FILE}: {why}") }
}

fn line(text: &str, bytes: usize) -> bool {
    !text.is_empty() && text.len() <= bytes && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

/// What turns the order of text around on a screen.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn snake(text: &str, bytes: usize) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= bytes
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `{key}` of an origin that a setting gives.
pub(crate) fn placeholder(origin: &str) -> Option<&str> {
    origin.strip_prefix('{')?.strip_suffix('}')
}

impl Manifest {
    /// Reads a manifest and checks all of it; errors say what to change.
    pub fn read(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
            wrong(format!("line {at}: {}", error.message()))
        })?;
        manifest.checked()?;
        Ok(manifest)
    }

    fn checked(&self) -> Result<()> {
        if self.protocol != PROTOCOL {
            return Err(wrong(format!("`protocol` is {}: this version of Cairn speaks {PROTOCOL}", self.protocol)));
        }
        if self.name.len() < 2 || !snake(&self.name, 32) {
            return Err(wrong("`name` is 2 to 32 of a-z, 0-9 and _, beginning with a letter"));
        }
        if !line(&self.version, 64) || !line(&self.about, 200) {
            return Err(wrong("`version` and `about` are one line each, of at most 64 and 200 bytes"));
        }
        if !(1..=32).contains(&self.exec.len()) || !self.exec.iter().all(|word| line(word, 1_024)) {
            return Err(wrong("`exec` is a program and its arguments, each one line"));
        }
        if !(1..=500).contains(&self.node_types.len()) {
            return Err(wrong("`node_types` lists 1 to 500 types"));
        }
        for node_type in &self.node_types {
            let own = node_type.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('.'));
            if !own || node_type.parse::<NodeType>().is_err() {
                return Err(wrong(format!(
                    "the node type `{}` is not its own: types are `{}.` and lower case",
                    node_type.escape_debug(),
                    self.name
                )));
            }
        }
        if let Some(unknown) = self.credential_types.iter().find(|kind| !CREDENTIAL_TYPES.contains(&kind.as_str())) {
            return Err(wrong(format!(
                "there is no credential type `{}`: use some of {}",
                unknown.escape_debug(),
                CREDENTIAL_TYPES.join(", ")
            )));
        }
        let mut keys = BTreeSet::new();
        for setting in &self.settings {
            if !snake(&setting.key, 64) || !keys.insert(setting.key.as_str()) {
                return Err(wrong(format!("the setting `{}` needs a key of its own", setting.key.escape_debug())));
            }
            if !line(&setting.help, 500) || !line(&setting.example, 200) {
                return Err(wrong(format!("the setting `{}` needs `help` and an `example`", setting.key)));
            }
            if let Err(why) = setting.value(&Value::String(setting.example.clone())) {
                return Err(wrong(format!("the example of `{}` is none: {why}", setting.key)));
            }
        }
        let limits = self.limits;
        for (name, is, range) in [
            ("run_s", limits.run_s, 1..=3_600),
            ("cpu_s", limits.cpu_s, 1..=3_600),
            ("memory_mib", limits.memory_mib, 16..=4_096),
            ("calls", limits.calls, 1..=100_000),
            ("silence_s", limits.silence_s, 1..=600),
        ] {
            if !range.contains(&is) {
                return Err(wrong(format!("`limits.{name}` is {is}: use {} to {}", range.start(), range.end())));
            }
        }
        if self.calls.len() > 200 {
            return Err(wrong("`calls` lists at most 200 groups"));
        }
        self.calls.iter().try_for_each(|rule| self.check_rule(rule))
    }

    fn check_rule(&self, rule: &CallRule) -> Result<()> {
        if !line(&rule.why, 200) {
            return Err(wrong("each of `calls` says in one line `why` it is needed"));
        }
        match (&rule.http, &rule.aws) {
            (Some(http), None) => self.check_http(http),
            (None, Some(aws)) => check_aws(aws),
            _ => Err(wrong("each of `calls` has either `http` or `aws`")),
        }
    }

    fn check_http(&self, rule: &HttpRule) -> Result<()> {
        match placeholder(&rule.origin) {
            Some(key) => {
                if !self.settings.iter().any(|setting| setting.key == key && setting.kind == Kind::Origin) {
                    return Err(wrong(format!("`{}` is no setting of the type `origin`", key.escape_debug())));
                }
            }
            None if rule.origin.starts_with("https://") && origin(&rule.origin).as_ref() == Some(&rule.origin) => {}
            None => {
                return Err(wrong("an `origin` is `https://host`, with a port where it is not 443, or `{setting}`"));
            }
        }
        if rule.methods.is_empty() || !rule.methods.iter().all(|m| matches!(m.as_str(), "GET" | "HEAD" | "POST")) {
            return Err(wrong("`methods` are some of GET, HEAD and POST: discovery changes nothing"));
        }
        let sound = |path: &String| {
            transport::https::path_problem(path).is_none()
                && path.split('/').all(|part| matches!(part, "*" | "**") || !part.contains('*'))
                && !path.trim_end_matches("/**").contains("**")
        };
        match rule.paths.iter().find(|path| !sound(path)) {
            Some(path) => Err(wrong(format!(
                "`{}` is no path: `*` stands for one segment, `**` at the end for more",
                path.escape_debug()
            ))),
            None if rule.paths.is_empty() => Err(wrong("`http` needs `paths`")),
            None => Ok(()),
        }
    }

    /// Checks a job's settings against the schema, and brings each value into its type.
    pub fn settings(&self, config: &Map<String, Value>) -> Result<Map<String, Value>> {
        if let Some(unknown) = config.keys().find(|key| !self.settings.iter().any(|setting| setting.key == **key)) {
            let known: Vec<&str> = self.settings.iter().map(|setting| setting.key.as_str()).collect();
            let known = if known.is_empty() { "it has none".to_owned() } else { format!("use {}", known.join(", ")) };
            let message = format!("the plugin `{}` has no setting `{}`: {known}", self.name, unknown.escape_debug());
            return Err(Error::invalid("config", message));
        }
        let mut out = Map::new();
        for setting in &self.settings {
            match config.get(&setting.key) {
                Some(value) => {
                    let value = setting
                        .value(value)
                        .map_err(|why| Error::invalid("config", format!("`{}`: {why}", setting.key)))?;
                    out.insert(setting.key.clone(), value);
                }
                None if setting.required => {
                    let message =
                        format!("`{}` is missing: {} (for example `{}`)", setting.key, setting.help, setting.example);
                    return Err(Error::invalid("config", message));
                }
                None => {}
            }
        }
        Ok(out)
    }

    /// What tells this job's source from others: twelve hexadecimal digits of what is read, and with which credential.
    pub(crate) fn source(&self, settings: &Map<String, Value>, credential: Option<CredentialId>) -> String {
        let any = self.settings.iter().any(|setting| setting.source);
        let told: Map<String, Value> = self
            .settings
            .iter()
            .filter(|setting| setting.source || !any)
            .filter_map(|setting| Some((setting.key.clone(), settings.get(&setting.key)?.clone())))
            .collect();
        let text = serde_json::json!([told, credential.map(|id| id.to_string())]).to_string();
        crypto::sha256(text.as_bytes()).to_hex().chars().take(12).collect()
    }
}

fn check_aws(rule: &AwsRule) -> Result<()> {
    let host_part = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    if !host_part(&rule.service) || !rule.endpoint_prefix.as_deref().is_none_or(host_part) {
        return Err(wrong("`service` and `endpoint_prefix` are as in the service's host name"));
    }
    let word = |text: &str| {
        (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    match rule.protocol {
        AwsProtocol::Query if !word(&rule.version) => return Err(wrong("`version` is such as `2016-11-15`")),
        AwsProtocol::Json if !word(&rule.target) || !matches!(rule.version.as_str(), "1.0" | "1.1") => {
            return Err(wrong("with `json`, `version` is 1.0 or 1.1 and `target` such as `AmazonSSM`"));
        }
        _ => {}
    }
    let reads = |name: &String| {
        name.bytes().all(|b| b.is_ascii_alphanumeric())
            && ["Describe", "List", "Get", "BatchGet", "BatchDescribe", "Lookup", "Search"].iter().any(|verb| {
                name.strip_prefix(verb).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            })
    };
    match rule.operations.iter().find(|name| !reads(name)) {
        Some(name) => Err(wrong(format!(
            "`{}` does not say that it only reads: operations begin with Describe, List, Get, BatchGet, BatchDescribe, Lookup or Search",
            name.escape_debug()
        ))),
        None if rule.operations.is_empty() => Err(wrong("`aws` needs `operations`")),
        None => Ok(()),
    }
}

impl Setting {
    /// The value in this setting's type.
    fn value(&self, value: &Value) -> Result<Value, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return Err("use a text, a number, or true or false".to_owned()),
        };
        if text.len() > SETTING_BYTES || text.contains('\0') {
            return Err(format!("it is longer than {SETTING_BYTES} bytes"));
        }
        if !self.one_of.is_empty() && !self.one_of.contains(&text) {
            return Err(format!("use one of {}", self.one_of.join(", ")));
        }
        match self.kind {
            Kind::Text => Ok(Value::String(text)),
            Kind::Number => text.parse::<i64>().map(Value::from).map_err(|_| "use a whole number".to_owned()),
            Kind::Boolean => text.parse::<bool>().map(Value::from).map_err(|_| "use true or false".to_owned()),
            Kind::Origin => origin(text.trim_end_matches('/'))
                .map(Value::String)
                .ok_or_else(|| "use scheme, host and port only, such as `https://status.example.com`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(crate) const GOOD: &str = r#"
protocol = 1
name = "status"
version = "1"
about = "services of a status page"
exec = ["python3", "plugin.py"]
node_types = ["status.service"]
credential_types = ["http-bearer"]
[[settings]]
key = "url"
help = "the page"
example = "https://status.example.com"
type = "origin"
required = true
source = true
[[settings]]
key = "most"
help = "how many"
example = "5"
type = "number"
[[calls]]
why = "lists services"
http = { origin = "{url}", methods = ["GET"], paths = ["/api/services", "/api/services/*/checks", "/all/**"] }
[[calls]]
why = "lists machines"
aws = { service = "ec2", protocol = "query", version = "2016-11-15", operations = ["DescribeInstances"] }
"#;

    fn refusal(from: &str, to: &str) -> String {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        Manifest::read(&text).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_that_claims_too_much_is_refused_with_what_to_change() {
        assert!(Manifest::read(GOOD).is_ok());
        for (from, to, expect) in [
            ("\"status.service\"", "\"aws.ec2.instance\"", "not its own"),
            ("\"status.service\"", "\"statusx.service\"", "not its own"),
            ("name = \"status\"", "name = \"Status\"", "`name`"),
            ("protocol = 1", "protocol = 2", "speaks 1"),
            ("\"GET\"", "\"DELETE\"", "changes nothing"),
            ("\"{url}\"", "\"{most}\"", "no setting of the type `origin`"),
            ("\"{url}\"", "\"http://a.example\"", "`https://host`"),
            ("\"{url}\"", "\"https://a.example/path\"", "`https://host`"),
            ("/api/services/*/checks", "/api/../checks", "is no path"),
            ("/api/services/*/checks", "/**/checks", "is no path"),
            ("/api/services/*/checks", "/api/ser*", "is no path"),
            ("DescribeInstances", "TerminateInstances", "only reads"),
            ("DescribeInstances", "Getaway", "only reads"),
            ("http-bearer", "ssh-password", "credential type"),
            ("example = \"5\"", "example = \"five\"", "whole number"),
            ("about = \"services", "about = \"\u{202e}services", "one line"),
            ("why = \"lists services\"", "", "why"),
            ("version = \"1\"", "version = \"1\"\nnetwork = true", "network"),
            ("[[calls]]\nwhy = \"lists s", "[limits]\nmemory_mib = 5000\n[[calls]]\nwhy = \"lists s", "memory_mib"),
        ] {
            let error = refusal(from, to);
            assert!(error.contains(expect), "{to}: {error}");
        }
    }

    #[test]
    fn settings_follow_the_schema() {
        let manifest = Manifest::read(GOOD).unwrap();
        let settings = |value: Value| manifest.settings(value.as_object().unwrap()).map_err(|e| e.to_string());
        let good = settings(json!({"url": "https://Status.Example.com:443/", "most": "7"})).unwrap();
        assert_eq!(Value::Object(good), json!({"url": "https://status.example.com", "most": 7}));
        for (config, expect) in [
            (json!({}), "`url` is missing: the page (for example"),
            (json!({"url": "https://a.example/x"}), "scheme, host and port only"),
            (json!({"url": "file:///etc"}), "scheme, host and port only"),
            (json!({"url": "https://a.example", "most": 1.5}), "whole number"),
            (json!({"url": ["https://a.example"]}), "use a text"),
            (json!({"url": "https://a.example", "x": 1}), "use url, most"),
        ] {
            let error = settings(config).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn jobs_of_another_source_or_credential_have_other_scopes() {
        let manifest = Manifest::read(GOOD).unwrap();
        let source = |value: Value, id: Option<u128>| {
            let id = id.map(|bits| CredentialId::from_uuid(uuid(bits)));
            manifest.source(value.as_object().unwrap(), id)
        };
        let one = source(json!({"url": "https://a.example"}), None);
        assert_eq!(
            one,
            source(json!({"url": "https://a.example", "most": 3}), None),
            "`most` does not say what is read"
        );
        assert_ne!(one, source(json!({"url": "https://b.example"}), None));
        assert_ne!(one, source(json!({"url": "https://a.example"}), Some(1)));
        assert_eq!(one.len(), 12);
    }

    fn uuid(bits: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(bits)
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s).{0,200}", at in 0usize..900, cut in 0usize..40) {
            let _ = Manifest::read(&text);
            let mut changed: Vec<char> = GOOD.chars().collect();
            let end = (at + cut).min(changed.len());
            if at < end {
                changed.splice(at..end, text.chars().take(5));
            }
            let _ = Manifest::read(&changed.into_iter().collect::<String>());
        }
    }
}
