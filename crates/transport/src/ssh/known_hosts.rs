//! Host keys that are known before a host is met: the lines of OpenSSH's `known_hosts` (sshd(8)), without hashed names. Pure.

use russh::keys::PublicKey;

use crate::CallError;
use crate::local::words;

/// Most lines.
const LINES: usize = 20_000;

/// What a line's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Authority,
    Revoked,
}

#[derive(Debug, Clone)]
struct Line {
    role: Role,
    names: Vec<String>,
    key: PublicKey,
}

/// Known keys by the names of their hosts.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts(Vec<Line>);

/// What is known of one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Its keys.
    pub(super) keys: Vec<PublicKey>,
    /// Authorities whose certificates it may show.
    pub(super) authorities: Vec<PublicKey>,
    /// Keys that are good for nothing.
    pub(super) revoked: Vec<PublicKey>,
}

impl KnownHosts {
    /// Reads the text of a `known_hosts`; errors name the line.
    pub fn parse(text: &str) -> Result<Self, CallError> {
        let mut out = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |why: &str| CallError::Malformed(format!("`known_hosts` line {number}: {why}"));
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if out.len() == LINES {
                return Err(wrong("there are more than 20,000: split the job"));
            }
            let mut parts = line.split_whitespace();
            let first = parts.next().unwrap_or_default();
            let (role, names) = match first {
                "@cert-authority" => (Role::Authority, parts.next().unwrap_or_default()),
                "@revoked" => (Role::Revoked, parts.next().unwrap_or_default()),
                other if other.starts_with('@') => return Err(wrong("the marker is unknown")),
                names => (Role::Key, names),
            };
            if names.starts_with('|') {
                return Err(wrong("hashed names are not read: write the names (`ssh-keyscan` without `-H` does)"));
            }
            let (Some(kind), Some(blob)) = (parts.next(), parts.next()) else {
                return Err(wrong("it is `NAMES TYPE KEY`, such as `host.example ssh-ed25519 AAAA…`"));
            };
            let key = PublicKey::from_openssh(&format!("{kind} {blob}"))
                .map_err(|_| wrong("the key cannot be read: copy it again"))?;
            // A line that lost its end: what is behind it would be left out without a word, a key that is revoked among it.
            if parts.any(|word| word.starts_with("@revoked") || word.starts_with("@cert-authority") || is_key(word)) {
                return Err(wrong("another one follows in the same line: give each host a line of its own"));
            }
            out.push(Line { role, names: names.split(',').map(str::to_ascii_lowercase).collect(), key });
        }
        Ok(Self(out))
    }

    /// What is known of `host` at `port`: lines name it plainly for port 22 and as `[host]:port` for others.
    pub(super) fn of(&self, host: &str, port: u16) -> Known {
        let name = if port == super::PORT { host.to_owned() } else { format!("[{host}]:{port}") };
        let mut known = Known::default();
        for line in &self.0 {
            if !names(&line.names, &name) {
                continue;
            }
            match line.role {
                Role::Key => known.keys.push(line.key.clone()),
                Role::Authority => known.authorities.push(line.key.clone()),
                Role::Revoked => known.revoked.push(line.key.clone()),
            }
        }
        known
    }
}

/// Whether a word of a comment begins as the blob of a key does: with the length of its type.
fn is_key(word: &str) -> bool {
    word.len() > 40 && word.starts_with("AAAA")
}

/// Whether one of the patterns means the name and none that begins with `!` does.
fn names(patterns: &[String], name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `*` is any text and `?` any character.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut retry) = (0, 0, None);
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(want) if *want == b'?' || want == byte => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// A key as people compare it: `SHA256:…`.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    words(&key.fingerprint(russh::keys::HashAlg::Sha256).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_line_is_for_the_names_and_the_port_that_it_says() {
        let text = format!(
            "# comment\nweb.example,10.0.0.1 {A} me\n[db.example]:2222 {A}\n*.lab,!bad.lab {A}\n@cert-authority *.corp {A}\n@revoked * {A}\n"
        );
        let known = KnownHosts::parse(&text).unwrap();
        for (host, port, keys, authorities) in [
            ("web.example", 22, 1, 0),
            ("WEB.example", 22, 1, 0),
            ("10.0.0.1", 22, 1, 0),
            ("web.example", 2222, 0, 0),
            ("db.example", 2222, 1, 0),
            ("db.example", 22, 0, 0),
            ("x.lab", 22, 1, 0),
            ("bad.lab", 22, 0, 0),
            ("x.corp", 22, 0, 1),
            ("corp", 22, 0, 0),
        ] {
            let found = known.of(host, port);
            assert_eq!(
                (found.keys.len(), found.authorities.len(), found.revoked.len()),
                (keys, authorities, 1),
                "{host}"
            );
        }
    }

    #[test]
    fn lines_that_mean_nothing_here_are_refused_with_their_number() {
        for (line, part) in [
            (format!("|1|abc|def {A}"), "hashed"),
            (format!("@friend x {A}"), "marker"),
            ("host ssh-ed25519".to_owned(), "NAMES TYPE KEY"),
            ("host ssh-ed25519 AAAA".to_owned(), "copy it again"),
            (format!("web1 {A} @revoked * {A}"), "a line of its own"),
            (format!("web1 {A} web2 {A}"), "a line of its own"),
        ] {
            let error = KnownHosts::parse(&format!("\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(part), "{error}");
        }
    }
}
