//! `cairn ssh`: the system's `ssh`, with a certificate that is made for the moment.
//!
//! Invariants:
//! - private keys are made here and never leave this machine; they lie in private folders below `~/.cairn/ssh`, and one that `cairn ssh` made for
//!   itself goes with it;
//! - a host is recognised by what the server knows of it, never by a question at a prompt, and `~/.ssh` is neither read nor written;
//! - nothing of the server's answer gets into a configuration but after it was read as what it has to be.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use crypto::ssh::PublicKey;
use domain::{Clock as _, DestinationId, DestinationRole, HostPort, Rng as _, Slug, Timestamp};
use serde::{Deserialize, Serialize};
use wire::destination::{DestinationTokenCreate, DestinationTokenCreated};
use wire::ssh_access::{SshCertificate, SshCertificateCreate, UPGRADE};

use crate::api::{Api, Context};
use crate::client::not_ours;
use crate::config::replace;
use crate::exec_token::Lock;
use crate::failure::{Failure, Result};
use crate::ssh_include::{self, About, again, kept};
use crate::{pipe, ssh_way};

/// Where everything of this is, within `~/.cairn`.
pub(crate) const FOLDER: &str = "ssh";
/// How long before its end a certificate is not used any more, in milliseconds: signing in takes its time.
const MARGIN_MS: i64 = 30_000;
/// How the folder of one `cairn ssh` begins.
const PASSING: &str = "session-";
/// When nobody needs such a folder any more.
const PASSED: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
pub(crate) struct Ssh {
    /// The destination's name, or ROLE@NAME where you hold several roles there; then what `ssh` is told besides: options, a command
    #[arg(
        value_name = "HOST",
        required_unless_present = "include",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
    /// Write a configuration for plain `ssh`, `scp` and others, with every host that you reach, and say how to include it
    #[arg(long, conflicts_with = "words")]
    include: bool,
    /// Only connect the standard input and output to a host through its relay: what the configurations run
    #[arg(long, hide = true)]
    through: bool,
    /// Only see to it that the certificate of the written configuration is good: what that configuration runs
    #[arg(long, hide = true)]
    refresh: bool,
}

/// What a server said, after it was read as what it has to be.
struct Certified {
    destination: DestinationId,
    /// Whether it goes through a relay.
    through: bool,
    address: HostPort,
    account: DestinationRole,
    certificate: String,
    known_hosts: String,
    expires_at: Timestamp,
}

/// A line of base64 that a configuration or a file of keys can hold.
fn is_certificate(text: &str) -> bool {
    let mut words = text.split(' ');
    let (kind, blob, more) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    kind.ends_with("-cert-v01@openssh.com") && !blob.is_empty() && blob.bytes().all(base64) && more.is_none()
}

impl Certified {
    fn read(made: SshCertificate) -> Result<Self> {
        let keys = |lines: &[String]| lines.iter().map(|line| line.parse()).collect::<Result<Vec<PublicKey>, _>>();
        let authorities = keys(&made.authorities).map_err(|_| not_ours())?;
        let host_key: PublicKey = made.host_key.parse().map_err(|_| not_ours())?;
        let through = made.relay.is_some();
        let alias = if through { format!("{}.relay", made.destination) } else { made.destination.to_string() };
        if made.host_alias != alias || !is_certificate(&made.certificate) || made.account.as_str().starts_with('-') {
            return Err(not_ours());
        }
        // A relay has no key that is known beforehand: it has a certificate for each connection. A host has the one that is registered: its
        // certificate would count for a key that was replaced, too.
        let known_hosts = if through {
            let lines: Vec<_> =
                authorities.iter().map(|authority| format!("@cert-authority {alias} {authority}\n")).collect();
            lines.concat()
        } else {
            format!("{alias} {host_key}\n")
        };
        Ok(Self {
            destination: made.destination,
            through,
            address: made.address.parse().map_err(|_| not_ours())?,
            account: made.account,
            certificate: made.certificate,
            known_hosts,
            expires_at: made.expires_at,
        })
    }
}

/// A private folder.
pub(crate) fn folder(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::file("make", path, error))
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes), true).map_err(|error| Failure::file("write", path, error))
}

/// A word of a configuration of `ssh`, which has no way to write a `"` within quotes.
pub(crate) fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n', '\\', '%', '$']));
    let text = text.ok_or_else(|| {
        Failure::new(format!("`{}` has a character that no configuration of ssh can hold", path.display()))
            .hint("set CAIRN_HOME to a plain path")
    })?;
    Ok(format!("\"{text}\""))
}

impl Certified {
    /// What makes `ssh` use what lies in a folder, and nothing else. An agent signs nothing here (`IdentitiesOnly`), and is there to be forwarded.
    /// `again`: how this program is called again, for the host.
    fn settings(&self, folder: &Path, again: &str) -> Result<String> {
        let at = |name: &str| quoted(&folder.join(name));
        let (alias, way) = if self.through {
            let way = format!("  ProxyCommand {again} ssh --through {}@{}\n", self.account, self.destination);
            (format!("{}.relay", self.destination), way)
        } else {
            (self.destination.to_string(), String::new())
        };
        Ok(format!(
            "{way}  HostName {}\n  Port {}\n  User {}\n  HostKeyAlias {}\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
         StrictHostKeyChecking yes\n  UpdateHostKeys no\n  CheckHostIP no\n  IdentityFile {}\n  CertificateFile {}\n  IdentitiesOnly yes\n  \
         PreferredAuthentications publickey\n",
            self.address.host(),
            self.address.port(),
            self.account,
            alias,
            at("known_hosts")?,
            at("key")?,
            at("key-cert.pub")?,
        ))
    }
}

/// Has a new key signed, and writes down what `ssh` needs to use it.
async fn certify(api: &Api, name: &str, role: Option<DestinationRole>, into: &Path) -> Result<Certified> {
    let key = crypto::ed25519::SigningKey::generate().map_err(|error| Failure::new(error.to_string()))?;
    let public_key = PublicKey::of_ed25519(&key.public()).to_string();
    let body = SshCertificateCreate { public_key, role };
    let made: SshCertificate =
        api.post(&["destinations", name, "ssh-certificates"], &body).await?.parse().map_err(|_| not_ours())?;
    let certified = Certified::read(made)?;
    let private = crypto::ssh::private_key(&key, &crypto::system::SystemRng);
    write(&into.join("key"), private.expose())?;
    write(&into.join("key-cert.pub"), format!("{}\n", certified.certificate).as_bytes())?;
    write(&into.join("known_hosts"), certified.known_hosts.as_bytes())?;
    Ok(certified)
}

/// A folder that goes with the program.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// `ROLE@NAME` or `NAME`.
fn named(text: &str) -> Result<(Slug, Option<DestinationRole>)> {
    let wrong = |error: domain::Error| Failure::usage(error.to_string());
    match text.rsplit_once('@') {
        Some((role, name)) => Ok((name.parse().map_err(wrong)?, Some(role.parse().map_err(wrong)?))),
        None => Ok((text.parse().map_err(wrong)?, None)),
    }
}

impl Ssh {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let home = cx.home()?.join(FOLDER);
        folder(&home)?;
        if self.include {
            return ssh_include::include(&api, &home, cx).await;
        }
        let (host, arguments) = self.words.split_first().ok_or_else(|| Failure::usage("which host?"))?;
        if self.through {
            let (role, destination) = host.split_once('@').ok_or_else(|| Failure::usage("--through needs ROLE@ID"))?;
            let role = role.parse().map_err(|error: domain::Error| Failure::usage(error.to_string()))?;
            return through(&api, destination, role).await;
        }
        let (name, role) = named(host)?;
        if self.refresh {
            let role = role.ok_or_else(|| Failure::usage("--refresh needs ROLE@NAME"))?;
            return refresh(&api, &home, &name, role).await;
        }
        forget_passed(&home);
        let mut word = [0u8; 8];
        crypto::system::SystemRng.fill(&mut word);
        let passing = Passing(home.join(format!("{PASSING}{:016x}", u64::from_be_bytes(word))));
        folder(&passing.0)?;
        About::new(&api).write(&passing.0)?;
        let certified = certify(&api, name.as_str(), role, &passing.0).await?;
        let config = passing.0.join("config");
        write(
            &config,
            format!(
                "Host {name}\n{}",
                certified.settings(&passing.0, &again(api.client.server(), api.tenant_name())?)?
            )
            .as_bytes(),
        )?;
        let mut command = tokio::process::Command::new("ssh");
        command.arg("-F").arg(&config).arg(name.as_str()).args(arguments);
        let ended = command
            .status()
            .await
            .map_err(|error| Failure::new(format!("cannot run `ssh`: {error}")).hint("install the OpenSSH client"))?;
        drop(passing);
        match ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or(0)) {
            0 => Ok(()),
            // What the command at the other end ended with is the caller's to know.
            code => std::process::exit(code),
        }
    }
}

/// Removes what `cairn ssh` left behind when it was killed. `ssh` reads its files when it begins.
fn forget_passed(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let is_passing = entry.file_name().to_string_lossy().starts_with(PASSING);
        let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_passing && age.is_some_and(|age| age > PASSED) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Of which session a kept certificate is, and until when it is good.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: String,
    expires_at: Timestamp,
}

/// Sees to it that the kept certificate is good for a while.
async fn refresh(api: &Api, home: &Path, name: &Slug, role: DestinationRole) -> Result {
    let into = kept(home, api.client.server(), api.tenant_name()).join(name.as_str()).join(role.as_str());
    folder(&into)?;
    let _lock = Lock::take(&into.join("lock"))?;
    let state = into.join("state.json");
    let known: Option<Kept> = std::fs::read(&state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let now = crypto::system::SystemClock.now();
    let identity = api.identity();
    if known.is_some_and(|kept| kept.identity == identity && kept.expires_at.millis_since(now) > MARGIN_MS) {
        return Ok(());
    }
    // Whatever is there is not good any more, or soon not.
    for name in ["state.json", "key", "key-cert.pub"] {
        drop(std::fs::remove_file(into.join(name)));
    }
    let certified = certify(api, name.as_str(), Some(role), &into).await?;
    write(
        &into.join("config"),
        certified.settings(&into, &again(api.client.server(), api.tenant_name())?)?.as_bytes(),
    )?;
    let kept = serde_json::to_vec(&Kept { identity, expires_at: certified.expires_at });
    write(&state, &kept.map_err(|error| Failure::file("write", &state, error))?)
}

/// Connects the standard input and output to a host through its relay, with a token for this one connection: straight to the relay where that is reached,
/// else through the server.
async fn through(api: &Api, destination: &str, role: DestinationRole) -> Result {
    let body = DestinationTokenCreate { role: Some(role) };
    let made: DestinationTokenCreated =
        api.post(&["destinations", destination, "tokens"], &body).await?.parse().map_err(|_| not_ours())?;
    let direct = match &made.direct {
        Some(way) => ssh_way::switch(way, made.destination, &made.token).await?,
        None => None,
    };
    let way = match direct {
        Some(way) => way,
        None => api.switch(&["destinations", destination, "ssh"], UPGRADE, &made.token).await?,
    };
    // Who leaves, on either side, ends it: `ssh` says what there is to say.
    pipe::carry(way).await;
    // A read of the standard input that never comes would hold the program up.
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn settings(change: &dyn Fn(&mut Value)) -> Option<String> {
        let id = "dst_01kb3v7z2nf9pbp9n9kz8v0q1r"
            .parse::<DestinationId>()
            .unwrap_or_else(|_| DestinationId::generate(&crypto::system::SystemClock, &crypto::system::SystemRng));
        let mut answer = json!({
            "id": domain::SshCertificateId::generate(&crypto::system::SystemClock, &crypto::system::SystemRng),
            "certificate": "ssh-ed25519-cert-v01@openssh.com AAAA", "destination": id, "name": "web1", "address": "10.0.0.7:22",
            "account": "deploy", "principals": [], "host_alias": id, "host_key": KEY, "authorities": [KEY],
            "expires_at": "2026-01-01T00:00:00.000Z",
        });
        change(&mut answer);
        let made: SshCertificate = serde_json::from_value(answer).ok()?;
        Certified::read(made).ok()?.settings(Path::new("/home/ann/.cairn/ssh/x"), "'/bin/cairn'").ok()
    }

    #[test]
    fn nothing_of_an_answer_gets_into_a_configuration_but_what_it_has_to_be() {
        let good = settings(&|_| ()).unwrap();
        assert!(good.contains("  HostName 10.0.0.7\n  Port 22\n  User deploy\n"), "{good}");
        for (field, bad) in [
            ("address", "10.0.0.7\n  ProxyCommand id"),
            ("address", "-oProxyCommand=id:22"),
            ("account", "deploy\n  ProxyCommand id"),
            ("account", "-oProxyCommand=id"),
            ("host_alias", "* !x"),
            ("host_key", "ssh-ed25519 AAAA\n* ssh-ed25519 AAAA"),
            ("certificate", "ssh-ed25519-cert-v01@openssh.com AAAA\nssh-rsa AAAA"),
            ("certificate", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ] {
            assert_eq!(settings(&|answer| answer[field] = bad.into()), None, "{field}: {bad}");
        }
        let through = settings(&|answer| {
            answer["host_alias"] = format!("{}.relay", answer["host_alias"].as_str().unwrap()).into();
            answer["relay"] = "rly_01kb3v7z2nf9pbp9n9kz8v0q1r".into();
        });
        let through = through.unwrap();
        assert!(through.starts_with("  ProxyCommand '/bin/cairn' ssh --through deploy@dst_"), "{through}");
        assert!(through.contains(".relay\n"), "{through}");
        assert_eq!(settings(&|answer| answer["authorities"] = json!([format!("{KEY}\n* {KEY}")])), None);
        assert!(quoted(Path::new("/home/a\"b")).is_err() && quoted(Path::new("/home/%h")).is_err());
    }

    #[test]
    fn a_host_is_named_with_or_without_a_role() {
        let read =
            |text: &str| named(text).ok().map(|(name, role)| (name.to_string(), role.map(|role| role.to_string())));
        assert_eq!(read("web1"), Some(("web1".into(), None)));
        assert_eq!(read("deploy@web1"), Some(("web1".into(), Some("deploy".into()))));
        for bad in ["", "-oProxyCommand=id", "@web1", "deploy@", "Web1", "a b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
