//! Signing in and out, and one's own sessions.
//!
//! Invariants: a password is sent only to a server whose certificate was accepted, and comes from a prompt or a file; the first look at a
//! server ends before anything is sent.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use domain::{Digest, Limits, Secret, Timestamp};
use wire::cli_session::{CliSessionCreate, CliSessionCreated};
use wire::session::{Me, PasswordChange, SecondStepNeeded, Session, SessionCreate, SessionCreated, SessionsEnd};

use crate::api::{Context, Paging};
use crate::client::{Client, not_ours};
use crate::config::{Config, Known, KnownSession, Trust};
use crate::device;
use crate::doc::Doc;
use crate::factor::Proofs;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::prompt;
use crate::server::Server;
use crate::table::Table;
use crate::trust::parse_fingerprint;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server's address, e.g. https://127.0.0.1:8443 [default: the one of the last login]
    #[arg(value_name = "SERVER")]
    address: Option<String>,
    /// The login name [default: asked for]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where a new password is due, read it from a file [default: asked for]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Sign in through a browser, on this machine or another: shows a code to type there
    #[arg(long, conflicts_with_all = ["user", "new_password_file", "api_key_file"])]
    device: bool,
    /// Use an API key instead of signing in, read from a file, - for the standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "new_password_file"])]
    api_key_file: Option<PathBuf>,
    /// Trust the server by the fingerprint that it prints when it starts
    #[arg(long, value_name = "SHA256-FINGERPRINT", value_parser = parse_fingerprint)]
    trust: Option<Digest>,
}

impl Login {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let home = cx.home()?;
        let config = Config::load(home)?;
        let server: Server = match &self.address {
            Some(address) => address.parse()?,
            None => cx.server(&config)?,
        };
        let proofs = cx.proofs();
        let files = [&proofs.password_file, &self.new_password_file, &proofs.code_file];
        if files.iter().filter(|path| path.as_deref() == Some(Path::new("-"))).count() > 1 {
            return Err(Failure::usage("only one of passwords and codes can come from the standard input"));
        }
        let known = config.servers.get(&server);
        let trust = match (self.trust, known) {
            (Some(fingerprint), _) => Trust::Pinned(fingerprint),
            (None, Some(known)) => known.trust,
            (None, None) => meet(&server).await?,
        };
        let client = Client::new(server.clone(), trust, None)?;
        if self.device {
            return remember(cx, home, &server, trust, device::sign_in(&client).await?.into());
        }
        if let Some(path) = &self.api_key_file {
            let token = text(&prompt::secret_file(path)?)?;
            let me: Me = client.with_token(token.clone()).get(&["me"], &[]).await?.parse().map_err(|_| not_ours())?;
            return remember(cx, home, &server, trust, SignedIn { token, expires_at: me.expires_at, me });
        }
        let email = match self.user.clone().or_else(|| known.and_then(|known| known.user.clone())) {
            Some(email) => email,
            None if prompt::is_interactive() => prompt::line("Login name:")?,
            None => return Err(Failure::usage("whose login is it?").hint("--user NAME")),
        };
        let password = match &proofs.password_file {
            Some(path) => prompt::secret_file(path)?,
            None if prompt::is_interactive() => prompt::secret(&format!("Password of {email}:"))?,
            None => {
                return Err(Failure::usage("there is no terminal to ask for the password")
                    .hint("--password-file FILE, - for the standard input"));
            }
        };
        let mut session = sign_in(&client, &email, &password, &proofs).await?;
        if session.me.must_change_password {
            let new = self.new_password(cx.out)?;
            let change = PasswordChange { old: text(&password)?, new: text(&new)? };
            client.clone().with_token(session.token).tell(&["me", "password"], &change).await?;
            cx.out.say("the password is changed");
            // A changed password ends every session, this one too.
            session = sign_in(&client, &email, &new, &proofs).await?;
        }
        // Nothing is kept of the first session: the command line has its own, which lives longer and is ended by itself.
        let first = client.with_token(session.token);
        let body = CliSessionCreate { client: device::client_name() };
        let made: CliSessionCreated =
            first.post(&["cli-sessions"], Some(&body)).await?.parse().map_err(|_| not_ours())?;
        if let Err(failure) = first.delete(&["sessions", "current"]).await {
            crate::output::warn(&format!("the session of the sign-in ends by itself: {}", failure.message));
        }
        remember(cx, home, &server, trust, made.into())
    }

    fn new_password(&self, out: Output) -> Result<Secret> {
        let new = match &self.new_password_file {
            Some(path) => prompt::secret_file(path)?,
            None if prompt::is_interactive() => {
                out.say(&format!("The password must be changed: {} characters or more.", Limits::PASSWORD_CHARS_MIN));
                let new = prompt::secret("New password:")?;
                if new.expose() != prompt::secret("New password again:")?.expose() {
                    return Err(Failure::new("the two passwords differ: nothing was changed"));
                }
                new
            }
            None => {
                return Err(Failure::new("the password must be changed")
                    .hint("--new-password-file FILE, or log in from a terminal"));
            }
        };
        if text(&new)?.chars().count() < Limits::PASSWORD_CHARS_MIN {
            return Err(Failure::new(format!(
                "a password has {} characters or more: nothing was changed",
                Limits::PASSWORD_CHARS_MIN
            )));
        }
        Ok(new)
    }
}

/// What is kept: a session of the command line, or an API key.
struct SignedIn {
    token: String,
    expires_at: Option<Timestamp>,
    me: Me,
}

impl From<CliSessionCreated> for SignedIn {
    fn from(made: CliSessionCreated) -> Self {
        Self { token: made.token, expires_at: Some(made.expires_at), me: made.me }
    }
}

fn text(secret: &Secret) -> Result<String> {
    secret.expose_str().map(str::to_owned).ok_or_else(|| Failure::new("a password is text in UTF-8"))
}

/// Decides about a server that was never seen: by the system's roots, else by asking.
async fn meet(server: &Server) -> Result<Trust> {
    let stranger = Client::stranger(server.clone())?;
    let looked = stranger.get(&["me"], &[]).await;
    let Some(fingerprint) = stranger.refused_certificate() else {
        return Err(looked.err().unwrap_or_else(|| Failure::new(format!("{server} showed no certificate"))));
    };
    // Without a system's store of roots there is no such client, and the certificate is unknown like any other.
    if let Ok(client) = Client::new(server.clone(), Trust::System, None)
        && client.is_trusted().await
    {
        return Ok(Trust::System);
    }
    if !prompt::is_interactive() {
        return Err(Failure::new(format!("{server} is not known: its fingerprint is {fingerprint}")).hint(format!(
            "compare it with the one that the server prints when it starts, then: cairn login {server} --trust {fingerprint}"
        )));
    }
    for line in [
        format!("{server} is not known. Its SHA-256 fingerprint is"),
        format!("  {fingerprint}"),
        "Compare it with the one that the server prints when it starts.".to_owned(),
    ] {
        crate::output::tell(&line);
    }
    if prompt::confirm("Trust this server?")? {
        Ok(Trust::Pinned(fingerprint))
    } else {
        Err(Failure::new("the server is not trusted: nothing was sent"))
    }
}

async fn sign_in(client: &Client, email: &str, password: &Secret, proofs: &Proofs) -> Result<SessionCreated> {
    let body = SessionCreate { email: email.to_owned(), password: text(password)?, cookie: false };
    let mut created = client.post(&["sessions"], Some(&body)).await?;
    if let Ok(needed) = created.parse::<SecondStepNeeded>() {
        let second = proofs.second_step(needed.token, &needed.methods)?;
        created =
            client.post(&["sessions", "second-step"], Some(&second)).await.map_err(|failure| match failure.status {
                Some(401) => Failure::new("the code is wrong, was used already, or came too late").hint("log in again"),
                _ => failure,
            })?;
    }
    created.parse().map_err(|_| Failure::new("the server's answer to the login is not as expected"))
}

fn remember(cx: &Context, home: &Path, server: &Server, trust: Trust, session: SignedIn) -> Result {
    let me = &session.me;
    // Read again: another login may have ended while this one asked for its password.
    let mut config = Config::load(home)?;
    let before = config.servers.get(server).and_then(|known| known.tenant.clone());
    let tenant = choose_tenant(cx.global.tenant.as_deref(), before.as_deref(), me)?;
    let kept = KnownSession { token: session.token, expires_at: session.expires_at };
    let known = Known { trust, user: me.email.clone(), tenant: tenant.clone(), session: Some(kept) };
    config.servers.insert(server.clone(), known);
    config.current = Some(server.clone());
    config.save(home)?;
    let who = me.email.as_deref().unwrap_or(&me.name);
    let until = session.expires_at.map(|until| format!(" until {until}")).unwrap_or_default();
    cx.out.say(&format!("signed in to {server} as {who}{until}"));
    match tenant {
        Some(tenant) => cx.out.say(&format!("tenant: {tenant}")),
        None if me.must_add_second_factor => {}
        None if me.tenants.is_empty() => cx.out.say("you are a member of no tenant"),
        None => {
            let yours = me.tenants.iter().map(|tenant| tenant.slug.as_str()).collect::<Vec<_>>().join(", ");
            cx.out.say(&format!("your tenants: {yours}; choose one with --tenant"));
        }
    }
    if me.must_add_second_factor {
        cx.out.say("a second factor is required here before anything else: cairn factors add-totp");
    }
    Ok(())
}

/// The tenant that commands mean from now on: the one that was asked for, else the one so far, else the only one.
fn choose_tenant(wanted: Option<&str>, before: Option<&str>, me: &Me) -> Result<Option<String>> {
    let find = |name: &str| me.tenants.iter().find(|tenant| tenant.slug == name || tenant.id.to_string() == name);
    if let Some(wanted) = wanted {
        let tenant =
            find(wanted).ok_or_else(|| Failure::new(format!("you are not a member of a tenant `{wanted}`")))?;
        return Ok(Some(tenant.slug.clone()));
    }
    Ok(match (before.and_then(find), me.tenants.as_slice()) {
        (Some(tenant), _) => Some(tenant.slug.clone()),
        (None, [only]) => Some(only.slug.clone()),
        _ => None,
    })
}

/// `logout`: ends the session, here in any case.
pub(crate) async fn logout(cx: &Context) -> Result {
    let home = cx.home()?;
    let mut config = Config::load(home)?;
    let server = cx.server(&config)?;
    let session = config.servers.get_mut(&server).and_then(|known| Some((known.trust, known.session.take()?)));
    let Some((trust, session)) = session else {
        cx.out.say(&format!("you were not signed in to {server}"));
        return Ok(());
    };
    config.save(home)?;
    crate::exec_token::forget(home, &server);
    crate::ssh_include::forget(home, &server);
    if session.token.starts_with("sk_") {
        cx.out.say("the API key is forgotten here; `cairn keys revoke` ends it everywhere");
        return Ok(());
    }
    match Client::new(server.clone(), trust, Some(session.token))?.delete(&["sessions", "current"]).await {
        Err(failure) if !failure.unauthenticated => Err(Failure::new(format!(
            "the session is forgotten here, but the server could not be told: {}",
            failure.message
        ))
        .hint(format!("it ends by itself{}", session.expires_at.map(|at| format!(" at {at}")).unwrap_or_default()))),
        _ => {
            cx.out.say(&format!("signed out of {server}"));
            Ok(())
        }
    }
}

/// `whoami`.
pub(crate) async fn whoami(cx: &Context) -> Result {
    let api = cx.platform()?;
    let me = api.get(&["me"]).await?;
    let Doc::Map(mut fields) = me else { return api.out.one(&me) };
    if cx.out.format == crate::output::Format::Table {
        let server = api.client.server().to_string();
        fields.insert(0, ("server".to_owned(), Doc::Text(server)));
    }
    api.out.one(&Doc::Map(fields))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List your live sessions
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// End one of your sessions
    Revoke {
        /// The session's id
        session: String,
    },
    /// Sign out everywhere else
    RevokeAll {
        /// Sign out here too
        #[arg(long)]
        including_this: bool,
    },
}

impl Table for Session {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("CURRENT", "current"),
        ("METHOD", "method"),
        ("SECOND FACTOR", "second_factor"),
        ("CREATED", "created_at"),
        ("LAST USED", "last_used_at"),
        ("ADDRESS", "ip"),
        ("CLIENT", "agent"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<Session>(&["me", "sessions"], &[], paging).await,
            Self::Revoke { session } => {
                api.delete(&["me", "sessions", &session]).await?;
                api.out.say(&format!("{session} is ended"));
                Ok(())
            }
            Self::RevokeAll { including_this } => {
                let body = SessionsEnd { including_current: including_this };
                api.out.one(&api.post(&["me", "sessions", "end"], &body).await?)
            }
        }
    }
}
