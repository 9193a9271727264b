//! `cairn use`: what this server lets the caller reach, as contexts of the kubeconfig.
//!
//! Invariants:
//! - only entries whose names begin with `cairn:SERVER:TENANT:` are made, changed or removed, and of those only what has to be so: a namespace,
//!   a proxy or an extension that somebody put there stays, and so does everything else in the file;
//! - the file is replaced as a whole under the lock that `kubectl` takes too, and one that cannot be understood is left as it is;
//! - there is no secret in it: `kubectl` runs `cairn tokens add`.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use domain::{DestinationRole, Slug};
use wire::destination::Reach;

use crate::api::Context;
use crate::client::not_ours;
use crate::config::replace;
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::server::Server;

/// How long to wait for somebody else who changes the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Use {
    /// The destination, and after a dot the namespace to begin in; without one, only the contexts are brought up to date
    #[arg(value_name = "DEST[.NAMESPACE]")]
    destination: Option<String>,
    /// As what; may be left out where one role fits
    #[arg(long)]
    role: Option<DestinationRole>,
    /// Through the server, also where a destination is reached directly
    #[arg(long)]
    through_server: bool,
}

/// One context: a destination in one role.
struct Wanted {
    name: String,
    cluster: String,
    server: String,
    authority: Option<String>,
    namespace: Option<String>,
    arguments: Vec<String>,
}

fn text(value: impl Into<String>) -> Doc {
    Doc::Text(value.into())
}

/// The field of an object, made where it is not there.
fn field<'a>(doc: &'a mut Doc, name: &str, empty: Doc) -> Result<&'a mut Doc> {
    let broken = || Failure::new(format!("around `{name}` it is not what a kubeconfig is"));
    let Doc::Map(fields) = doc else { return Err(broken()) };
    let at = fields.iter().position(|(key, _)| key == name).unwrap_or(fields.len());
    if at == fields.len() {
        fields.push((name.to_owned(), Doc::Null));
    }
    let (_, value) = fields.get_mut(at).ok_or_else(broken)?;
    if *value == Doc::Null {
        *value = empty;
    }
    let fits = matches!(
        (&*value, name),
        (Doc::List(_), "clusters" | "contexts" | "users") | (Doc::Map(_), "cluster" | "context" | "user")
    ) || !matches!(name, "clusters" | "contexts" | "users" | "cluster" | "context" | "user");
    if fits { Ok(value) } else { Err(broken()) }
}

fn set(doc: &mut Doc, name: &str, value: Option<Doc>) {
    let Doc::Map(fields) = doc else { return };
    match (fields.iter_mut().find(|(key, _)| key == name), value) {
        (Some((_, old)), Some(new)) => *old = new,
        (None, Some(new)) => fields.push((name.to_owned(), new)),
        (_, None) => fields.retain(|(key, _)| key != name),
    }
}

/// The inner object of the entry of this name in a list of the kubeconfig; made where it is not there.
fn entry<'a>(config: &'a mut Doc, list: &str, inner: &str, name: &str) -> Result<&'a mut Doc> {
    let Doc::List(entries) = field(config, list, Doc::List(Vec::new()))? else { return Err(not_ours()) };
    let at = entries.iter().position(|entry| entry.text("name") == name).unwrap_or(entries.len());
    if at == entries.len() {
        entries.push(Doc::Map(vec![("name".to_owned(), text(name))]));
    }
    field(entries.get_mut(at).ok_or_else(not_ours)?, inner, Doc::Map(Vec::new()))
}

/// Makes the entries under `prefix` what is wanted, and nothing else different.
fn merge(config: &mut Doc, prefix: &str, wanted: &[Wanted], command: &str) -> Result {
    if !matches!(config, Doc::Map(_)) {
        return Err(Failure::new("it is not what a kubeconfig is"));
    }
    for (name, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        if config.field(name).is_none() {
            set(config, name, Some(text(value)));
        }
    }
    for (list, keep) in [("clusters", true), ("contexts", false), ("users", false)] {
        let Doc::List(entries) = field(config, list, Doc::List(Vec::new()))? else { continue };
        entries.retain(|entry| {
            let name = entry.text("name");
            let is_wanted = |one: &Wanted| name == if keep { &one.cluster } else { &one.name };
            !name.starts_with(prefix) || wanted.iter().any(is_wanted)
        });
    }
    for one in wanted {
        let cluster = entry(config, "clusters", "cluster", &one.cluster)?;
        set(cluster, "server", Some(text(&one.server)));
        set(cluster, "certificate-authority-data", one.authority.as_ref().map(text));
        let user = entry(config, "users", "user", &one.name)?;
        let mut exec =
            user.field("exec").filter(|old| matches!(old, Doc::Map(_))).cloned().unwrap_or(Doc::Map(Vec::new()));
        for (name, value) in [
            ("apiVersion", text("client.authentication.k8s.io/v1")),
            ("command", text(command)),
            ("args", Doc::List(one.arguments.iter().map(text).collect())),
            ("interactiveMode", text("Never")),
        ] {
            set(&mut exec, name, Some(value));
        }
        set(user, "exec", Some(exec));
        let context = entry(config, "contexts", "context", &one.name)?;
        set(context, "cluster", Some(text(&one.cluster)));
        set(context, "user", Some(text(&one.name)));
        if let (None, Some(namespace)) = (context.field("namespace"), &one.namespace) {
            set(context, "namespace", Some(text(namespace)));
        }
    }
    let current = config.text("current-context").to_owned();
    if current.starts_with(prefix) && !wanted.iter().any(|one| one.name == current) {
        set(config, "current-context", Some(text("")));
    }
    Ok(())
}

/// The file that `kubectl` changes: the first of `KUBECONFIG`, else `~/.kube/config`.
fn path(cx: &Context) -> Result<PathBuf> {
    let path = cx.environment.kubeconfig.clone();
    path.ok_or_else(|| Failure::new("there is no home directory").hint("set KUBECONFIG to a file"))
}

/// The lock that `kubectl` takes: a file beside the other one, which is there while somebody changes it.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match std::fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Err(Failure::new(format!("somebody else changes `{}`", path.display()))
                        .hint(format!("if nobody does, remove {}", lock.display())));
                }
                Err(e) => return Err(Failure::file("lock", path, e)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Changes the file, if `change` changes what it says.
fn update(path: &Path, change: impl FnOnce(&mut Doc) -> Result) -> Result {
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| Failure::file("make", folder, e))?;
    }
    let _lock = Lock::take(path)?;
    // The lock is at the name that `kubectl` knows, the change where a link leads: so that it stays one.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Failure::file("read", path, e)),
    };
    let understood = |e: &dyn std::fmt::Display| {
        Failure::file("understand", path, e).hint("it was left as it is: repair it, or set KUBECONFIG to another file")
    };
    let mut config = if before.trim().is_empty() {
        Doc::Map(Vec::new())
    } else {
        serde_saphyr::from_str::<Doc>(&before).map_err(|e| understood(&e))?
    };
    let was = config.clone();
    change(&mut config).map_err(|failure| Failure { hint: failure.hint.clone(), ..understood(&failure.message) })?;
    if config == was {
        return Ok(());
    }
    let text = config.to_yaml();
    replace(path, |file| file.write_all(text.as_bytes()), true).map_err(|e| Failure::file("write", path, e))
}

/// How the names of a server's and tenant's entries begin: none is the beginning of another one's, so a tenant that is called as a port is
/// written behind the server's port.
fn prefix(server: &Server, tenant: &str) -> String {
    let (authority, like_a_port) = (server.authority(), tenant.bytes().all(|byte| byte.is_ascii_digit()));
    let port = if like_a_port && authority == server.host() { ":443" } else { "" };
    format!("cairn:{authority}{port}:{tenant}:")
}

impl Use {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let reach: Vec<Reach> =
            api.all(&["reach"]).await?.iter().map(|doc| doc.parse().map_err(|_| not_ours())).collect::<Result<_>>()?;
        let clusters: Vec<&Reach> = reach.iter().filter(|one| one.kind == "kubernetes").collect();
        let server = api.client.server();
        let prefix = prefix(server, api.tenant_name());
        let own = api.client.accepted_authority().map(|der| pem("CERTIFICATE", &der));
        let wanted: Vec<Wanted> =
            clusters.iter().map(|one| wanted(one, self.through_server, &prefix, &api, own.as_deref())).collect();
        let chosen =
            self.destination.as_deref().map(|named| choose(&clusters, named, self.role.as_ref())).transpose()?;
        let command =
            std::env::current_exe().map_err(|e| Failure::new(format!("cannot tell where this program is: {e}")))?;
        let path = path(cx)?;
        update(&path, |config| {
            merge(config, &prefix, &wanted, &command.to_string_lossy())?;
            if let Some((one, namespace)) = &chosen {
                let name = format!("{prefix}{}:{}", one.name, one.role);
                if let Some(namespace) = namespace {
                    let context = entry(config, "contexts", "context", &name)?;
                    set(context, "namespace", Some(text(namespace.to_string())));
                }
                set(config, "current-context", Some(text(name)));
            }
            Ok(())
        })?;
        // What was approved since is in the next token.
        crate::exec_token::forget(cx.home()?, server);
        match chosen {
            Some((one, _)) => api.out.say(&format!("kubectl talks to {} as {} now", one.name, one.role)),
            None => api.out.say(&format!("{} contexts are in `{}`", wanted.len(), path.display())),
        }
        Ok(())
    }
}

fn wanted(one: &Reach, through_server: bool, prefix: &str, api: &crate::api::Api, own: Option<&str>) -> Wanted {
    use base64::Engine as _;
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let through = format!("/api/v1/tenants/{}/destinations/{}/proxy", api.tenant_name(), one.destination);
    let (server, authority) = match &one.address {
        Some(address) if !through_server => {
            (format!("https://{address}"), (!one.authority.is_empty()).then(|| encode(&one.authority)))
        }
        _ => (api.client.server().url(&through, &[]).to_string(), own.map(encode)),
    };
    let arguments = ["tokens", "add", &one.name, "--role", &one.role, "--tenant", api.tenant_name(), "--server"];
    let arguments = arguments.iter().map(|text| (*text).to_owned()).chain([api.client.server().to_string()]).collect();
    let namespace = match one.namespaces.as_deref() {
        Some([only]) => Some(only.clone()),
        _ => None,
    };
    Wanted {
        name: format!("{prefix}{}:{}", one.name, one.role),
        cluster: format!("{prefix}{}", one.name),
        server,
        authority,
        namespace,
        arguments,
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The one context that `DEST[.NAMESPACE]` and a role mean.
fn choose<'a>(
    clusters: &[&'a Reach],
    named: &str,
    role: Option<&DestinationRole>,
) -> Result<(&'a Reach, Option<Slug>)> {
    let (name, namespace) = match named.split_once('.') {
        Some((name, namespace)) => (name, Some(namespace.parse::<Slug>().map_err(|e| Failure::usage(e.to_string()))?)),
        None => (named, None),
    };
    let reaches = |one: &Reach| match (&one.namespaces, &namespace) {
        (Some(held), Some(asked)) => held.iter().any(|name| name == asked.as_str()),
        _ => true,
    };
    let fits = |one: &&&Reach| one.name == name && role.is_none_or(|role| one.role == role.as_str()) && reaches(one);
    let found: Vec<&'a Reach> = clusters.iter().filter(fits).copied().collect();
    match found[..] {
        [one] => Ok((one, namespace)),
        [] => Err(Failure::new(format!("you do not reach `{named}`"))
            .hint("`cairn list` shows what you reach, `cairn requests create` asks for more")),
        _ => {
            let roles: Vec<&str> = found.iter().map(|one| one.role.as_str()).collect();
            Err(Failure::usage(format!("you hold several roles there: {}", roles.join(", "))).hint("--role ROLE"))
        }
    }
}

#[cfg(test)]
#[path = "kube/tests.rs"]
mod tests;
