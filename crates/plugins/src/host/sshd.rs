//! `sshd_config(5)`: includes in place, the first value wins, Match blocks apart, OpenSSH's documented defaults (9.x) filled in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::scope::Source;
use super::text;

const MAIN: &str = "/etc/ssh/sshd_config";
/// OpenSSH itself stops at 16 levels of Include.
const INCLUDE_DEPTH: usize = 16;
const FILES: usize = 256;

/// Keywords whose arguments make a list.
const LISTS: &[&str] = &[
    "acceptenv",
    "allowgroups",
    "allowusers",
    "authenticationmethods",
    "authorizedkeysfile",
    "casignaturealgorithms",
    "ciphers",
    "denygroups",
    "denyusers",
    "hostbasedacceptedalgorithms",
    "hostkey",
    "hostkeyalgorithms",
    "kexalgorithms",
    "listenaddress",
    "macs",
    "permitlisten",
    "permitopen",
    "port",
    "pubkeyacceptedalgorithms",
    "setenv",
    "subsystem",
];
/// Keywords whose lines add up instead of the first winning.
const ADDING: &[&str] = &[
    "acceptenv",
    "allowgroups",
    "allowusers",
    "denygroups",
    "denyusers",
    "hostkey",
    "listenaddress",
    "permitlisten",
    "permitopen",
    "port",
    "subsystem",
];
const NUMBERS: &[&str] = &["clientalivecountmax", "maxauthtries", "maxsessions", "x11displayoffset", "requiredrsasize"];
const TIMES: &[&str] = &["clientaliveinterval", "logingracetime"];
/// Older spellings.
const ALIASES: &[(&str, &str)] = &[
    ("challengeresponseauthentication", "kbdinteractiveauthentication"),
    ("pubkeyacceptedkeytypes", "pubkeyacceptedalgorithms"),
    ("hostbasedacceptedkeytypes", "hostbasedacceptedalgorithms"),
    ("dsaauthentication", "pubkeyauthentication"),
    ("keepalive", "tcpkeepalive"),
];
/// Defaults of sshd_config(5), OpenSSH 9.2; lists are separated by commas.
const DEFAULTS: &[(&str, &str)] = &[
    ("addressfamily", "any"),
    ("allowagentforwarding", "yes"),
    ("allowstreamlocalforwarding", "yes"),
    ("allowtcpforwarding", "yes"),
    ("authorizedkeysfile", ".ssh/authorized_keys,.ssh/authorized_keys2"),
    ("banner", "none"),
    (
        "ciphers",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    ),
    ("clientalivecountmax", "3"),
    ("clientaliveinterval", "0"),
    ("compression", "delayed"),
    ("disableforwarding", "no"),
    ("exposeauthinfo", "no"),
    ("fingerprinthash", "SHA256"),
    ("gatewayports", "no"),
    ("gssapiauthentication", "no"),
    ("gssapicleanupcredentials", "yes"),
    ("hostbasedauthentication", "no"),
    ("hostkey", "/etc/ssh/ssh_host_rsa_key,/etc/ssh/ssh_host_ecdsa_key,/etc/ssh/ssh_host_ed25519_key"),
    ("ignorerhosts", "yes"),
    ("ignoreuserknownhosts", "no"),
    ("kbdinteractiveauthentication", "yes"),
    ("kerberosauthentication", "no"),
    (
        "kexalgorithms",
        "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,\
         ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,\
         diffie-hellman-group14-sha256",
    ),
    ("logingracetime", "120"),
    ("loglevel", "INFO"),
    (
        "macs",
        "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,\
         hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1",
    ),
    ("maxauthtries", "6"),
    ("maxsessions", "10"),
    ("maxstartups", "10:30:100"),
    ("passwordauthentication", "yes"),
    ("permitemptypasswords", "no"),
    ("permitrootlogin", "prohibit-password"),
    ("permittty", "yes"),
    ("permittunnel", "no"),
    ("permituserenvironment", "no"),
    ("permituserrc", "yes"),
    ("port", "22"),
    ("printlastlog", "yes"),
    ("printmotd", "yes"),
    ("pubkeyauthentication", "yes"),
    ("rekeylimit", "default none"),
    ("requiredrsasize", "1024"),
    ("strictmodes", "yes"),
    ("syslogfacility", "AUTH"),
    ("tcpkeepalive", "yes"),
    ("usedns", "no"),
    ("usepam", "no"),
    ("x11displayoffset", "10"),
    ("x11forwarding", "no"),
    ("x11uselocalhost", "yes"),
];

/// One line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    line: usize,
    keyword: String,
    args: Vec<String>,
}

/// The lines of one file, and the numbers of those that cannot be read.
fn parse(config: &str) -> (Vec<Directive>, Vec<usize>) {
    let (mut directives, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text::lines(config) {
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let (keyword, rest) = line.split_at(end);
        let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest);
        match arguments(rest) {
            Some(args)
                if !args.is_empty() && keyword.chars().all(|c| c.is_ascii_alphanumeric()) && !keyword.is_empty() =>
            {
                let keyword = keyword.to_ascii_lowercase();
                let keyword =
                    ALIASES.iter().find(|(old, _)| *old == keyword).map_or(keyword, |(_, new)| (*new).to_owned());
                directives.push(Directive { line: number, keyword, args });
            }
            _ => wrong.push(number),
        }
    }
    (directives, wrong)
}

/// Words, some in double quotes, up to a comment; nothing when a quote stays open.
fn arguments(text: &str) -> Option<Vec<String>> {
    let (mut out, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '#' if !quoted && !begun => break,
            c if c.is_whitespace() && !quoted => {
                if begun {
                    out.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        out.push(word);
    }
    (!quoted).then_some(out)
}

/// Seconds of `1h30m`, `90`, `2w`.
fn seconds(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0i64, None::<i64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into())?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    total.checked_add(number.unwrap_or(0))
}

/// `+a,b`, `-a*`, `^a` against the default list; else the list itself.
fn algorithms(default: &str, value: &str) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let defaults = split(default);
    match value.chars().next() {
        Some('+') => {
            let added = split(value.trim_start_matches('+'))
                .into_iter()
                .filter(|name| !defaults.contains(name))
                .collect::<Vec<_>>();
            defaults.into_iter().chain(added).collect()
        }
        Some('-') => {
            let gone = split(value.trim_start_matches('-'));
            defaults.into_iter().filter(|name| !gone.iter().any(|pattern| text::matches(pattern, name))).collect()
        }
        Some('^') => {
            let first = split(value.trim_start_matches('^'));
            let rest: Vec<String> = defaults.into_iter().filter(|name| !first.contains(name)).collect();
            first.into_iter().chain(rest).collect()
        }
        _ => split(value),
    }
}

fn is_algorithms(keyword: &str) -> bool {
    matches!(
        keyword,
        "ciphers"
            | "macs"
            | "kexalgorithms"
            | "hostkeyalgorithms"
            | "pubkeyacceptedalgorithms"
            | "casignaturealgorithms"
            | "hostbasedacceptedalgorithms"
    )
}

/// A keyword's value in the schema's form.
fn value(keyword: &str, args: &[String]) -> Value {
    let joined = args.join(" ");
    if is_algorithms(keyword) {
        let default = DEFAULTS.iter().find(|(name, _)| *name == keyword).map_or("", |(_, list)| list);
        return algorithms(default, &joined).into();
    }
    if keyword == "port" {
        return args.iter().map(|port| text::scalar(port)).collect();
    }
    if keyword == "subsystem" {
        return args.to_vec().into();
    }
    if LISTS.contains(&keyword) {
        return args.to_vec().into();
    }
    if NUMBERS.contains(&keyword) {
        return text::scalar(&joined);
    }
    if TIMES.contains(&keyword) {
        return seconds(&joined).map_or_else(|| joined.clone().into(), Into::into);
    }
    match keyword {
        "loglevel" | "syslogfacility" => joined.to_ascii_uppercase().into(),
        "permitrootlogin" if joined.eq_ignore_ascii_case("without-password") => "prohibit-password".into(),
        "banner" if joined.eq_ignore_ascii_case("none") => "none".into(),
        _ if joined.eq_ignore_ascii_case("yes") || joined.eq_ignore_ascii_case("no") => {
            joined.to_ascii_lowercase().into()
        }
        _ => joined.into(),
    }
}

/// The settings of the global part or of one Match block: arguments by keyword.
type Settings = BTreeMap<String, Vec<String>>;

fn apply(settings: &mut Settings, directive: Directive) {
    let adding = ADDING.contains(&directive.keyword.as_str());
    let args = if directive.keyword == "subsystem" { vec![directive.args.join(" ")] } else { directive.args };
    match settings.get_mut(&directive.keyword) {
        Some(before) if adding => before.extend(args),
        Some(_) => {}
        None => {
            settings.insert(directive.keyword, args);
        }
    }
}

fn shown(settings: &Settings) -> Map<String, Value> {
    settings.iter().map(|(keyword, args)| (text::printable(keyword, 64), value(keyword, args))).collect()
}

/// A file that is being read: its path, the lines that are left, and the Match block that it began in.
struct Frame {
    path: String,
    left: std::vec::IntoIter<Directive>,
    outer: Option<usize>,
}

async fn open(source: &mut Source<'_>, path: &str, outer: Option<usize>) -> Option<Frame> {
    let config = source.config(path).await?;
    let (directives, wrong) = parse(&config);
    for line in wrong.into_iter().take(3) {
        source.problem(format!("{path}:{line}: not a keyword and its arguments"));
    }
    Some(Frame { path: path.to_owned(), left: directives.into_iter(), outer })
}

/// The `sshd` map of the machine; nothing to say but `installed: false` where there is neither a configuration nor a server.
pub(super) async fn collect(source: &mut Source<'_>) -> Value {
    let program = source.any_exists(&["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"]).await;
    let config = source.file(MAIN).await;
    let configured = config.get("exists") == Some(&Value::Bool(true));
    if !program && !configured {
        return json!({ "installed": false });
    }
    let mut global = Settings::new();
    let mut blocks: Vec<(String, Settings)> = Vec::new();
    let (mut files, mut block) = (Vec::new(), None);
    let mut stack = Vec::new();
    let mark = source.mark();
    stack.extend(open(source, MAIN, None).await.inspect(|frame| files.push(frame.path.clone())));
    let readable = source.mark() == mark || !files.is_empty();
    while let Some(frame) = stack.last_mut() {
        let Some(directive) = frame.left.next() else {
            block = frame.outer;
            stack.pop();
            continue;
        };
        match directive.keyword.as_str() {
            "match" => {
                let criteria = directive.args.join(" ");
                block = if criteria.eq_ignore_ascii_case("all") {
                    None
                } else {
                    blocks.push((criteria, Settings::new()));
                    Some(blocks.len() - 1)
                };
            }
            "include" => {
                let (at, depth) = (format!("{}:{}", frame.path, directive.line), stack.len());
                if depth >= INCLUDE_DEPTH || files.len() >= FILES {
                    source.problem(format!("{at}: too many levels of Include"));
                    continue;
                }
                let mut found = Vec::new();
                for pattern in &directive.args {
                    found.extend(source.glob(&text::join("/etc/ssh", pattern)).await);
                }
                // The stack is last in, first out; sshd reads the first match first.
                for path in found.into_iter().rev() {
                    if stack.iter().any(|open| open.path == path) {
                        source.problem(format!("{at}: includes itself by way of {path}"));
                    } else if files.len() < FILES
                        && let Some(frame) = open(source, &path, block).await
                    {
                        files.push(path);
                        stack.push(frame);
                    }
                }
            }
            _ => match block.and_then(|index| blocks.get_mut(index)) {
                Some((_, settings)) => apply(settings, directive),
                None => apply(&mut global, directive),
            },
        }
    }
    let explicit: BTreeSet<String> = global.keys().cloned().collect();
    for (keyword, default) in DEFAULTS {
        let args = if LISTS.contains(keyword) && !is_algorithms(keyword) {
            default.split(',').map(str::to_owned).collect()
        } else {
            vec![(*default).to_owned()]
        };
        global.entry((*keyword).to_owned()).or_insert(args);
    }
    files.sort();
    let mut keys = Vec::new();
    for path in source.glob("/etc/ssh/ssh_host_*").await {
        let mut key = source.file(&path).await;
        if path.strip_suffix(".pub").is_some()
            && let (Some(members), Some(line)) = (key.as_object_mut(), source.value(&path, false).await)
        {
            // What tells this machine from every other to who reaches it by SSH. Its comment says nothing.
            let words: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
            members.insert("public_key".to_owned(), words.join(" ").into());
        }
        keys.push(key);
    }
    let private_ok = keys
        .iter()
        .filter(|key| key["path"].as_str().is_none_or(|path| path.strip_suffix(".pub").is_none()))
        .all(|key| {
            ["world_readable", "world_writable", "group_writable"].iter().all(|bit| key[*bit] == Value::Bool(false))
                && key["uid"] == json!(0)
        });
    let blocks: Vec<Value> = blocks
        .iter()
        .map(|(criteria, settings)| json!({ "criteria": criteria, "settings": shown(settings) }))
        .collect();
    json!({
        "installed": true, "config": config, "settings": readable.then(|| shown(&global)), "explicit": explicit, "match_blocks": blocks,
        "host_keys": keys, "host_keys_private_ok": private_ok, "config_files": files,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_become_keywords_and_arguments() {
        let (got, wrong) = parse("PermitRootLogin=no\n# c\nAllowUsers \"a b\" c # why\nBroken \"x\nPort\n");
        assert_eq!(got[0], Directive { line: 1, keyword: "permitrootlogin".into(), args: vec!["no".into()] });
        assert_eq!(got[1].args, ["a b", "c"]);
        assert_eq!(wrong, [4, 5]);
    }

    #[test]
    fn times_and_algorithm_lists_read_as_openssh_reads_them() {
        assert_eq!(
            (seconds("1h30m"), seconds("90"), seconds("x"), seconds("99999999999999999999")),
            (Some(5_400), Some(90), None, None)
        );
        assert_eq!(algorithms("a,b", "+c,a"), ["a", "b", "c"]);
        assert_eq!(algorithms("a-cbc,b", "-*cbc"), ["b"]);
        assert_eq!(algorithms("a,b", "^b"), ["b", "a"]);
        assert_eq!(algorithms("a,b", "z"), ["z"]);
    }

    #[test]
    fn the_first_value_wins_and_lists_add_up() {
        let mut settings = Settings::new();
        for directive in parse(
            "PasswordAuthentication no\nPasswordAuthentication yes\nAllowUsers a\nAllowUsers b\nX11Forwarding YES",
        )
        .0
        {
            apply(&mut settings, directive);
        }
        let shown = shown(&settings);
        assert_eq!(shown["passwordauthentication"], "no");
        assert_eq!(shown["allowusers"], json!(["a", "b"]));
        assert_eq!(shown["x11forwarding"], "yes");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).{0,300}") {
            for directive in parse(&text).0 {
                let _ = value(&directive.keyword, &directive.args);
            }
            let _ = seconds(&text);
        }
    }
}
