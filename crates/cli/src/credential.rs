//! Credentials: secrets go in from a file, the standard input or a prompt, and never from an argument.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use wire::credential::{Credential, CredentialCreate, CredentialType, Plugin};
use wire::validation::{Check, Validation, ValidationCreate};

use crate::api::{Api, Context, Paging};
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::output::{Format, warn};
use crate::table::Table;
use crate::{job, prompt};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List credentials; their secrets are never shown
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Store a credential; what no file gives is asked for without echo
    Add(Add),
    /// Show a credential without its secret
    Show {
        /// Its id, or its name where that is the only one
        credential: String,
    },
    /// Try what a job would begin with, and say what the credential may not do; nothing is stored of what is seen. It takes a minute at most; a
    /// credential of which nothing is answered is exit code 1
    Validate {
        /// Its id, or its name where that is the only one
        credential: String,
        /// The relay that tries it, by name or id; without one a server does
        #[arg(long, value_name = "RELAY")]
        relay: Option<String>,
        /// A setting of the plugin, which says what is tried; the value is JSON where it can be read as JSON, else text
        #[arg(long, value_name = "KEY=VALUE", value_parser = job::setting)]
        set: Vec<(String, Value)>,
    },
    /// Delete a credential
    Delete {
        /// Its id, or its name where that is the only one
        credential: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The plugin that it is for
    #[arg(long)]
    plugin: String,
    /// Its name, unique for the plugin
    #[arg(long)]
    name: String,
    /// Its type, one of those that `cairn plugins show PLUGIN` lists [default: the only one]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Read one field of the secret from a file
    #[arg(long, value_name = "FIELD=PATH", value_parser = field_file)]
    secret_file: Vec<(String, PathBuf)>,
    /// Read fields of the secret from a JSON object on the standard input
    #[arg(long)]
    secret_stdin: bool,
    /// Read fields of the secret from a JSON object in a file
    #[arg(long, value_name = "FILE", conflicts_with = "secret_stdin")]
    from_file: Option<PathBuf>,
}

impl Table for Credential {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("PLUGIN", "plugin"),
        ("TYPE", "type"),
        ("VALIDATED", "validation_status"),
        ("LAST USED", "last_used_at"),
        ("CREATED", "created_at"),
        ("ID", "id"),
    ];
}

impl Table for Check {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("TRIED", "what"), ("OUTCOME", "outcome"), ("WHY", "reason")];
}

fn field_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((field, path)) if !field.is_empty() && !path.is_empty() => Ok((field.to_owned(), path.into())),
        _ => Err("give the field, = and the file's path".to_owned()),
    }
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<Credential>(&["credentials"], &[], paging).await,
            Self::Add(add) => {
                let plugin = cx.platform()?.find(&["plugins"], "name", &add.plugin, "plugin").await?;
                let plugin: Plugin = plugin
                    .parse()
                    .map_err(|e| Failure::new(format!("the server's plugin list is not as expected: {e}")))?;
                let kind = choose_type(&plugin, add.kind.as_deref())?;
                let mut secret = add.given()?;
                check_fields(kind, &secret)?;
                complete(kind, &mut secret, prompt::is_interactive(), |question| {
                    Ok(prompt::secret(question)?.expose_str().unwrap_or_default().to_owned())
                })?;
                let body = CredentialCreate { plugin: add.plugin, name: add.name, kind: kind.name.clone(), secret };
                api.out.one(&api.post(&["credentials"], &body).await?)
            }
            Self::Show { credential } => {
                let id = id_of(&api, &credential).await?;
                api.out.one(&api.get(&["credentials", &id]).await?)
            }
            Self::Validate { credential, relay, set } => {
                let id = id_of(&api, &credential).await?;
                let plugin = api.get(&["credentials", &id]).await?.text("plugin").to_owned();
                let config = job::config(&set)?;
                validate(&api, &ValidationCreate { plugin, credential: Some(id), relay, config }).await
            }
            Self::Delete { credential } => {
                let id = id_of(&api, &credential).await?;
                api.delete(&["credentials", &id]).await?;
                api.out.say(&format!("credential {credential} is deleted"));
                Ok(())
            }
        }
    }
}

/// Asks for a validation, waits for its end, and says how it went.
async fn validate(api: &Api, body: &ValidationCreate) -> Result {
    let asked = api.post(&["validations"], body).await?;
    let id = asked.text("id").to_owned();
    api.out.say("trying it: a minute at most");
    let mut shown = asked;
    // The server ends it by itself, whatever happens to whoever does it.
    while matches!(shown.text("status"), "queued" | "running") {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shown = api.get(&["validations", &id]).await?;
    }
    let ended: Validation =
        shown.parse().map_err(|e| Failure::new(format!("the server's validation is not as expected: {e}")))?;
    if api.out.format == Format::Table {
        let checks = shown.field("checks").cloned();
        let Some(Doc::List(checks)) = checks else { return Err(Failure::new("the server tells no checks")) };
        api.out.list::<Check>(checks)?;
    } else {
        api.out.one(&shown)?;
    }
    let count = |outcome: &str| ended.checks.iter().filter(|check| check.outcome == outcome).count();
    let (good, tried) = (count("good"), ended.checks.len() - count("not_tried"));
    if let Some(error) = &ended.error {
        warn(error);
    }
    match ended.status.as_str() {
        "passed" => api.out.say(&format!("all of {tried} were answered")),
        "incomplete" => warn(&format!("{good} of {tried} were answered: what was denied or failed is not read")),
        _ => return Err(Failure::new("nothing that was tried is answered").hint("cairn creds show NAME")),
    }
    Ok(())
}

async fn id_of(api: &Api, credential: &str) -> Result<String> {
    if credential.parse::<domain::CredentialId>().is_ok() {
        return Ok(credential.to_owned());
    }
    Ok(api.find(&["credentials"], "name", credential, "credential").await?.text("id").to_owned())
}

impl Add {
    /// The fields that files give.
    fn given(&self) -> Result<BTreeMap<String, String>> {
        let text = |path: &Path| Ok(prompt::secret_file(path)?.expose_str().unwrap_or_default().to_owned());
        let object = if self.secret_stdin { Some(Path::new("-")) } else { self.from_file.as_deref() };
        let mut fields: BTreeMap<String, String> = match object {
            // What serde says of broken JSON could quote a part of the secret.
            Some(path) => serde_json::from_str(&text(path)?)
                .map_err(|_| Failure::file("understand", path, "it is not a JSON object of texts"))?,
            None => BTreeMap::new(),
        };
        for (field, path) in &self.secret_file {
            if fields.insert(field.clone(), text(path)?).is_some() {
                return Err(Failure::usage(format!("the field `{field}` is given twice")));
            }
        }
        Ok(fields)
    }
}

fn choose_type<'a>(plugin: &'a Plugin, wanted: Option<&str>) -> Result<&'a CredentialType> {
    let types = &plugin.credential_types;
    let names = types.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, types.as_slice()) {
        (_, []) => Err(Failure::new(format!("the plugin `{}` needs no credential", plugin.name))),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::usage(format!("say which --type it is: {names}"))),
        (Some(wanted), _) => types.iter().find(|kind| kind.name == wanted).ok_or_else(|| {
            Failure::usage(format!("the plugin `{}` has no credential type `{wanted}`", plugin.name))
                .hint(format!("one of {names}"))
        }),
    }
}

fn check_fields(kind: &CredentialType, secret: &BTreeMap<String, String>) -> Result {
    match secret.keys().find(|field| !kind.required.contains(field) && !kind.optional.contains(field)) {
        None => Ok(()),
        Some(field) => Err(Failure::usage(format!("`{}` has no field `{field}`", kind.name)).hint(format!(
            "its fields are {}",
            [kind.required.as_slice(), kind.optional.as_slice()].concat().join(", ")
        ))),
    }
}

/// Asks for the fields that must be there and are not.
fn complete(
    kind: &CredentialType,
    secret: &mut BTreeMap<String, String>,
    interactive: bool,
    mut ask: impl FnMut(&str) -> Result<String>,
) -> Result {
    let missing: Vec<&String> = kind.required.iter().filter(|field| !secret.contains_key(*field)).collect();
    if !missing.is_empty() && !interactive {
        let names = missing.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("`{}` needs {names}", kind.name)).hint(
            "--secret-file FIELD=PATH, --secret-stdin or --from-file FILE; or run it in a terminal to be asked",
        ));
    }
    for field in missing {
        let value = ask(&format!("{field}:"))?;
        if value.is_empty() {
            return Err(Failure::new(format!("`{field}` is empty: nothing was stored")));
        }
        secret.insert(field.clone(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> CredentialType {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        CredentialType {
            name: "aws-keys".to_owned(),
            required: text(&["access_key_id", "secret_access_key"]),
            optional: text(&["session_token"]),
            several_lines: vec![],
        }
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let mut secret = BTreeMap::from([("access_key_id".to_owned(), "a".to_owned())]);
        let mut asked = Vec::new();
        complete(&keys(), &mut secret, true, |question| {
            asked.push(question.to_owned());
            Ok("s".to_owned())
        })
        .unwrap();
        assert_eq!(asked, ["secret_access_key:"]);
        assert_eq!(secret.get("secret_access_key").map(String::as_str), Some("s"));
        assert!(complete(&keys(), &mut BTreeMap::new(), true, |_| Ok(String::new())).is_err());
    }

    #[test]
    fn without_a_terminal_what_is_missing_is_named() {
        let failure = complete(&keys(), &mut BTreeMap::new(), false, |_| unreachable!("nobody is there")).unwrap_err();
        assert_eq!(failure.message, "`aws-keys` needs access_key_id, secret_access_key");
    }

    #[test]
    fn a_misspelt_field_is_told() {
        let failure = check_fields(&keys(), &BTreeMap::from([("acess_key_id".to_owned(), String::new())])).unwrap_err();
        assert!(failure.hint.unwrap().contains("access_key_id, secret_access_key, session_token"));
    }

    #[test]
    fn broken_json_is_told_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        std::fs::write(&path, r#"{"k": planted-secret}"#).unwrap();
        let add = Add {
            plugin: String::new(),
            name: String::new(),
            kind: None,
            secret_file: vec![],
            secret_stdin: false,
            from_file: Some(path),
        };
        assert!(!add.given().unwrap_err().message.contains("planted"));
    }
}
