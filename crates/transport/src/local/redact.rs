//! Takes secrets out of files before anybody sees them. Pure.

use crate::call::CallError;

#[cfg(feature = "ssh")]
pub(crate) mod remote;

/// Files whose second field is a password hash, and old passwords.
const SHADOW: &[&str] = &["shadow", "shadow-", "gshadow", "gshadow-", "passwd", "passwd-", "group", "group-"];
/// Old passwords of pam_pwhistory.
const OPASSWD: &[&str] = &["opasswd", "nopasswd.old", "opasswd.old"];

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn in_etc(path: &str) -> bool {
    path.starts_with("/etc/")
}

/// Whether even the hash of the file would help to guess the passwords in it.
pub(crate) fn is_secret(path: &str) -> bool {
    let name = name(path);
    in_etc(path) && (OPASSWD.contains(&name) || (SHADOW.contains(&name) && name.contains("shadow")))
        || name.starts_with("ssh_host_") && name.ends_with("_key")
}

/// The bytes of the file at `path` (its links resolved) without secrets; an error where nothing would be left.
pub(crate) fn file(path: &str, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
    if in_etc(path) && OPASSWD.contains(&name(path)) {
        return Err(CallError::Denied("old passwords are not read".into()));
    }
    if body.split(|byte| *byte == b'\n').any(begins_private_key) {
        return Err(CallError::Denied("it holds a private key, which is not read".into()));
    }
    if in_etc(path) && SHADOW.contains(&name(path)) {
        return Ok(shadow(&body));
    }
    // Passwords of network file systems are options.
    if path == "/etc/fstab" {
        let text = String::from_utf8_lossy(&body);
        let option = |option: &str| match option.split_once('=') {
            Some((key, _)) if key.ends_with("pass") || key.ends_with("password") => format!("{key}=<redacted>"),
            _ => option.to_owned(),
        };
        let words = |words: &str| words.split(',').map(option).collect::<Vec<_>>().join(",");
        let mut out = String::with_capacity(text.len());
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            out.push_str(&words(word));
            out.push_str(piece.get(word.len()..).unwrap_or_default());
        }
        return Ok(out.into_bytes());
    }
    // The kernel's command line and GRUB's files: a boot password's hash.
    if contains(&body, b"grub.pbkdf2.") {
        return Ok(grub(&body));
    }
    Ok(body)
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

fn begins_private_key(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ") && contains(line, b"PRIVATE KEY-----")
}

fn grub(body: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    let text = String::from_utf8_lossy(body);
    let mut rest: &str = &text;
    while let Some((before, after)) = rest.split_once("grub.pbkdf2.") {
        out.push_str(before);
        out.push_str("<redacted>");
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
    }
    out.push_str(rest);
    out.into_bytes()
}

/// Each line's second field becomes `locked`, `none`, `set` (and `locked` or `set` are followed by the hash's algorithm, where one is there).
/// `x` (the hash is in shadow) stays.
fn shadow(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        // A line with no field before the hash would be one long secret.
        match line.split_once(':') {
            Some((name, rest)) if !looks_hashed(name) => {
                let (field, ages) = rest.split_once(':').map_or((rest, None), |(field, ages)| (field, Some(ages)));
                out.push_str(name);
                out.push(':');
                out.push_str(&state(field));
                if let Some(ages) = ages {
                    out.push(':');
                    // Ages are numbers, members are names: nothing else can pass.
                    let parts: Vec<&str> =
                        ages.split(':').map(|part| if looks_hashed(part) { "<redacted>" } else { part }).collect();
                    out.push_str(&parts.join(":"));
                }
            }
            _ if line.starts_with('#') || line.is_empty() => {}
            _ => out.push_str("<redacted>"),
        }
        out.push('\n');
    }
    out.into_bytes()
}

fn looks_hashed(text: &str) -> bool {
    text.contains('$') && text.len() > 12
}

fn state(field: &str) -> String {
    if field == "x" {
        return "x".into();
    }
    let hash = field.trim_start_matches(['!', '*']);
    let locked = hash.len() < field.len();
    match (locked, algorithm(hash)) {
        (_, None) if field.is_empty() => "none".into(),
        (_, None) => "locked".into(),
        (true, Some(algorithm)) => format!("locked {algorithm}"),
        (false, Some(algorithm)) => format!("set {algorithm}"),
    }
}

/// crypt(5)'s name of a hash; nothing where there is none.
fn algorithm(hash: &str) -> Option<&'static str> {
    let Some(rest) = hash.strip_prefix('$') else {
        return match hash.len() {
            0 => None,
            _ if hash.starts_with('_') => Some("bsdi"),
            13 => Some("des"),
            _ => Some("unknown"),
        };
    };
    Some(match rest.split('$').next().unwrap_or_default() {
        "y" => "yescrypt",
        "gy" => "gost-yescrypt",
        "7" => "scrypt",
        "6" => "sha512",
        "5" => "sha256",
        "sha1" => "sha1",
        "1" => "md5",
        "2" | "2a" | "2b" | "2x" | "2y" => "bcrypt",
        "3" => "nt",
        _ => "unknown",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(path: &str, body: &str) -> String {
        String::from_utf8(file(path, body.as_bytes().to_vec()).unwrap()).unwrap()
    }

    #[test]
    fn shadow_keeps_state_algorithm_and_ages_only() {
        let text = "root:$y$j9T$abc$def:19782:0:99999:7:::\nd:*:1:::::\nn::1:::::\nl:!$6$salt$hash:1:::::\np:!!:1:::::\nbroken$y$j9T$secretsecret\n";
        let got = shown("/etc/shadow", text);
        assert_eq!(
            got,
            "root:set yescrypt:19782:0:99999:7:::\nd:locked:1:::::\nn:none:1:::::\nl:locked sha512:1:::::\np:locked:1:::::\n<redacted>\n"
        );
    }

    #[test]
    fn hashes_in_passwd_and_boot_passwords_go_too() {
        assert_eq!(
            shown("/etc/passwd", "a:x:1:1::/:/bin/sh\nb:$1$abc$defghijkl:1:1::/:\n"),
            "a:x:1:1::/:/bin/sh\nb:set md5:1:1::/:\n"
        );
        assert_eq!(
            shown("/boot/grub/user.cfg", "password_pbkdf2 root grub.pbkdf2.sha512.10000.AB.CD\n"),
            "password_pbkdf2 root <redacted>\n"
        );
        assert_eq!(shown("/proc/x", "plain\n"), "plain\n");
        assert_eq!(
            shown("/etc/fstab", "//h/s /m cifs user=u,password=p,ro 0 0\n"),
            "//h/s /m cifs user=u,password=<redacted>,ro 0 0\n"
        );
    }

    #[test]
    fn private_keys_and_old_passwords_are_refused() {
        let key = "x\n-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n";
        assert!(matches!(file("/root/id", key.into()), Err(CallError::Denied(_))));
        assert!(matches!(file("/etc/security/opasswd", vec![]), Err(CallError::Denied(_))));
        assert!(is_secret("/etc/shadow-") && is_secret("/etc/ssh/ssh_host_rsa_key") && !is_secret("/etc/passwd"));
    }

    proptest! {
        #[test]
        fn no_hash_survives(name in "[a-z]{1,8}", salt in "[a-z]{16}", hash in "[A-Za-z]{43}", lock in "!{0,2}", tail in "[0-9:]{0,12}") {
            let line = format!("{name}:{lock}$6${salt}${hash}:{tail}\n");
            prop_assert!(!shown("/etc/shadow", &line).contains(&hash));
        }

        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            let _ = (file("/etc/shadow", body.clone()), file("/etc/gshadow", body.clone()), grub(&body), file("/x", body));
        }
    }
}
