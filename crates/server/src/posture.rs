//! Configurations that are good for a look at Cairn on one's own machine, and refused everywhere else: secrets out of examples, switches for
//! tests. A server that listens on a loopback address only is on one's own machine.
//!
//! Secrets that are worthless anywhere are refused anywhere.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::bail;

use domain::Secret;

use crate::config::Config;

/// What stands in examples where a secret belongs.
const PLACEHOLDERS: [&str; 11] = [
    "change-me",
    "changeme",
    "change_me",
    "default",
    "example",
    "jwt_secret",
    "jwt-secret",
    "password",
    "replace",
    "secret",
    "your-",
];
/// Fewer different characters than this are no random text of 32 bytes or more.
const DIFFERENT_BYTES: usize = 8;

/// Whether a secret is one that somebody else knows too.
fn is_known(secret: &str) -> bool {
    let lower = secret.to_ascii_lowercase();
    let different: std::collections::BTreeSet<u8> = secret.bytes().collect();
    different.len() < DIFFERENT_BYTES || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

/// The password of a database's URL.
fn password(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.rsplit_once('@')?.0.split_once(':').map(|(_, password)| password)
}

fn host_is_local(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    ["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local)) || host.is_empty()
}

/// Refuses a start that would be unsafe. `file`: the configuration's, where there is one; `jwt_secret`: what `JWT_SECRET` means.
pub(crate) fn check(config: &Config, file: Option<&Path>, jwt_secret: Option<&Secret>) -> anyhow::Result<()> {
    if jwt_secret.and_then(Secret::expose_str).is_some_and(is_known) {
        bail!("JWT_SECRET is one that others can guess: use `openssl rand -base64 48`, or unset it to have one made");
    }
    let database = &config.database;
    let urls = [("database.url", &database.url), ("database.owner_url", &database.owner_url)];
    let passwords = || urls.iter().filter_map(|(key, url)| Some((key, url.as_deref()?, password(url.as_deref()?)?)));
    for (key, url, password) in passwords() {
        let guessable = PLACEHOLDERS.iter().any(|word| password.eq_ignore_ascii_case(word));
        if !host_is_local(url) && (guessable || ["...", "postgres", "cairn", ""].contains(&password)) {
            bail!("{key} holds the password of an example: give the role one of its own");
        }
    }
    if let Some(path) = file {
        let open = std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o007 != 0);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if open && passwords().any(|(_, url, _)| text.contains(url)) {
            bail!("`{0}` holds a database's password and is open to others: run `chmod 600 {0}`", path.display());
        }
    }
    if config.server.listen.ip().is_loopback() {
        return Ok(());
    }
    let listen = config.server.listen;
    if config.discovery.loopback_targets {
        bail!(
            "discovery.loopback_targets is for tests, and server.listen is `{listen}`: unset it, or listen on 127.0.0.1"
        );
    }
    if config.log.level.to_ascii_lowercase().contains("trace") {
        bail!(
            "log.level is `{}`, which shows requests in full, and server.listen is `{listen}`: use `debug` at most, or listen on 127.0.0.1",
            config.log.level.escape_debug()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, std::path::PathBuf, anyhow::Result<Config>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cairn.toml");
        std::fs::write(&path, text).unwrap();
        let config = crate::config::load(Some(&path), &|_| None);
        (dir, path, config)
    }

    fn checked(text: &str, mode: u32, jwt_secret: Option<&str>) -> Result<(), String> {
        let (_dir, path, config) = config(text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let jwt_secret = jwt_secret.map(|text| Secret::new(text.as_bytes().to_vec()));
        check(&config.unwrap(), Some(&path), jwt_secret.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn attack_76_secrets_that_others_know_and_switches_for_tests_are_refused() {
        let world = "[server]\nlisten = \"0.0.0.0:8443\"\n";
        for (text, mode, expect) in [
            (format!("{world}[discovery]\nloopback_targets = true\n"), 0o600, "loopback_targets"),
            (format!("{world}[log]\nlevel = \"info,hyper=trace\"\n"), 0o600, "shows requests in full"),
            ("[database]\nurl = \"postgres://cairn:password@db/cairn\"\n".to_owned(), 0o600, "of an example"),
            ("[database]\nurl = \"postgres://cairn:...@db/cairn\"\n".to_owned(), 0o600, "of an example"),
            ("[database]\nowner_url = \"postgres://o:ChangeMe@db/cairn\"\n".to_owned(), 0o600, "database.owner_url"),
            ("[database]\nurl = \"postgres://cairn:q8Zr2LxK@db/cairn\"\n".to_owned(), 0o644, "chmod 600"),
        ] {
            let error = checked(&text, mode, None).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
            assert!(!error.contains("q8Zr2LxK"), "{error}");
        }
        for secret in [
            "change-me-change-me-change-me-change-me",
            "your-256-bit-secret-your-256-bit-secret",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "01010101010101010101010101010101",
            "THIS_IS_AN_EXAMPLE_KEY_FOR_TESTS_ONLY_1",
        ] {
            assert!(checked("", 0o600, Some(secret)).unwrap_err().contains("JWT_SECRET"), "{secret}");
        }
        // There is no such key, so there is no wildcard to set.
        for key in ["cors = \"*\"", "allowed_origins = [\"*\"]", "debug = true", "insecure = true"] {
            assert!(config(&format!("[server]\n{key}\n")).2.is_err(), "{key}");
        }
    }

    #[test]
    fn what_is_good_for_ones_own_machine_or_is_a_secret_starts() {
        let random = "k3Vf0sWq9ZyXn2cLr7TtBhU1mEoJpAdG5iQxRvHlM8wKbYzN";
        for (text, mode) in [
            ("", 0o644),
            ("[discovery]\nloopback_targets = true\n[log]\nlevel = \"trace\"\n", 0o644),
            ("[database]\nurl = \"postgres://cairn:password@127.0.0.1:5432/cairn\"\n", 0o600),
            ("[database]\nurl = \"postgres://cairn:q8Zr2LxK@db/cairn\"\n", 0o640),
            ("[database]\nurl = \"postgres:///cairn?host=/run\"\n", 0o644),
            ("[server]\nlisten = \"0.0.0.0:8443\"\n[log]\nlevel = \"debug\"\n", 0o644),
        ] {
            assert_eq!(checked(text, mode, Some(random)), Ok(()), "{text}");
        }
    }
}
