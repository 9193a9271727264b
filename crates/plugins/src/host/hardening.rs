//! What hardens a machine by configuration: login.defs, PAM, module bans, cron, limits, audit, time, security modules, banners, logs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::accounts::merged;
use super::scope::Source;
use super::text;

/// Whether systemd starts a unit of one of these names (a link in a `.wants` directory), or OpenRC does.
async fn starts(source: &mut Source<'_>, names: &[&str]) -> bool {
    for name in names {
        let unit = if name.contains('.') { (*name).to_owned() } else { format!("{name}.service") };
        for pattern in ["/etc/systemd/system/*.wants", "/run/systemd/generator/*.wants", "/lib/systemd/system/*.wants"]
        {
            if !source
                .glob(&format!(
                    "{pattern}/[{}]{}",
                    unit.get(..1).unwrap_or_default(),
                    unit.get(1..).unwrap_or_default()
                ))
                .await
                .is_empty()
            {
                return true;
            }
        }
        if source.exists(&format!("/etc/runlevels/default/{name}")).await {
            return true;
        }
    }
    false
}

fn truth(text: Option<&str>) -> Option<bool> {
    match text?.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "on" => Some(true),
        "no" | "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

pub(super) async fn login_defs(source: &mut Source<'_>) -> Value {
    let mut out = Map::new();
    for (key, value) in text::words(&source.config("/etc/login.defs").await.unwrap_or_default()) {
        // A mask and a mode are octal: as text they keep their leading zero.
        let octal = key == "UMASK" || key == "HOME_MODE";
        out.insert(text::snake(key), if octal { value.into() } else { text::scalar(value) });
    }
    let useradd = text::assignments(&source.config("/etc/default/useradd").await.unwrap_or_default());
    if let Some(days) = useradd.get("INACTIVE") {
        out.insert("inactive".into(), text::scalar(days));
    }
    out.into()
}

/// A line of a PAM stack: module and arguments; `[…]` controls may hold blanks.
fn pam_line(line: &str) -> Option<(&str, &str, Vec<&str>)> {
    let line = line.strip_prefix('-').unwrap_or(line);
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?.1,
        None => rest.split_once(char::is_whitespace)?.1,
    };
    let mut words = rest.split_whitespace();
    let module = text::base(words.next()?).trim_end_matches(".so");
    Some((kind, module, words.collect()))
}

/// Settings from a file of `key = value` or bare `key` lines, then from module arguments (which win).
fn options(file: &str, args: &[String]) -> BTreeMap<String, String> {
    let from_file = text::lines(file).map(|(_, line)| line.to_owned());
    from_file
        .chain(args.iter().cloned())
        .map(|line| match line.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), value.trim().to_owned()),
            None => (line.trim().to_owned(), "true".to_owned()),
        })
        .collect()
}

pub(super) async fn pam(source: &mut Source<'_>) -> Value {
    let mut modules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut nullok, mut hash, mut wheel) = (false, None, false);
    let names = [
        "common-auth",
        "common-account",
        "common-password",
        "common-session",
        "system-auth",
        "password-auth",
        "base-auth",
        "base-password",
        "su",
        "login",
        "sshd",
    ];
    let mut any = false;
    for name in names {
        let Some(stack) = source.config(&format!("/etc/pam.d/{name}")).await else { continue };
        any = true;
        for (kind, module, args) in text::lines(&stack).filter_map(|(_, line)| pam_line(line)) {
            if module.starts_with("pam_unix") {
                nullok |= args.iter().any(|arg| arg.starts_with("nullok"));
                if kind == "password" {
                    let known = ["yescrypt", "gost_yescrypt", "sha512", "sha256", "blowfish", "bigcrypt", "md5"];
                    hash = hash.or(args.iter().find(|arg| known.contains(arg)).map(|arg| (*arg).to_owned()));
                }
            }
            wheel |= name == "su" && module == "pam_wheel" && kind == "auth";
            modules.entry(module.to_owned()).or_default().extend(args.into_iter().map(str::to_owned));
        }
    }
    if !any {
        return json!({ "installed": false });
    }
    let args = |name: &str| modules.get(name).cloned().unwrap_or_default();
    let has = |name: &str| modules.contains_key(name);
    let lock_file = source.config("/etc/security/faillock.conf").await.unwrap_or_default();
    let lock = options(&lock_file, &args("pam_faillock"));
    let mut quality_file = String::new();
    for path in source.glob("/etc/security/pwquality.conf.d/*.conf").await {
        quality_file += &source.config(&path).await.unwrap_or_default();
    }
    quality_file.insert_str(0, &(source.config("/etc/security/pwquality.conf").await.unwrap_or_default() + "\n"));
    let quality = options(&quality_file, &args("pam_pwquality"));
    let history_file = source.config("/etc/security/pwhistory.conf").await.unwrap_or_default();
    let history = options(&history_file, &args("pam_pwhistory"));
    let number = |map: &BTreeMap<String, String>, key: &str, default: i64| {
        map.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (locks, checks, remembers) = (has("pam_faillock"), has("pam_pwquality"), has("pam_pwhistory"));
    let mut faillock = json!({ "enabled": locks });
    if locks {
        faillock = merged(
            faillock,
            json!({
                "deny": number(&lock, "deny", 3), "unlock_time": number(&lock, "unlock_time", 600), "fail_interval": number(&lock, "fail_interval", 900),
                "even_deny_root": lock.contains_key("even_deny_root"),
            }),
        );
    }
    let mut pwquality = json!({ "enabled": checks });
    if checks {
        let credit = |key: &str| number(&quality, key, 0);
        pwquality = merged(
            pwquality,
            json!({
                "minlen": number(&quality, "minlen", 8), "minclass": credit("minclass"), "dcredit": credit("dcredit"), "ucredit": credit("ucredit"),
                "lcredit": credit("lcredit"), "ocredit": credit("ocredit"), "difok": number(&quality, "difok", 1), "maxrepeat": credit("maxrepeat"),
                "maxsequence": credit("maxsequence"), "dictcheck": number(&quality, "dictcheck", 1),
                "enforce_for_root": quality.contains_key("enforce_for_root"),
            }),
        );
    }
    let pwhistory = if remembers {
        json!({ "enabled": true, "remember": number(&history, "remember", 10) })
    } else {
        json!({ "enabled": false })
    };
    json!({
        "faillock": faillock, "pwquality": pwquality, "pwhistory": pwhistory, "nullok": nullok, "hash": hash, "wheel_su": wheel,
        "modules": modules.keys().collect::<Vec<_>>(),
    })
}

pub(super) async fn modules(source: &mut Source<'_>) -> Value {
    let (mut disabled, mut blacklisted) = (BTreeSet::new(), BTreeSet::new());
    for dir in ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"] {
        for path in source.glob(&format!("{dir}/*.conf")).await {
            let config = source.config(&path).await.unwrap_or_default();
            for (_, line) in text::lines(&config) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["install", name, program, ..] if ["true", "false"].contains(&text::base(program)) => {
                        disabled.insert(name.replace('-', "_"));
                    }
                    ["blacklist", name, ..] => {
                        blacklisted.insert(name.replace('-', "_"));
                    }
                    _ => {}
                }
            }
        }
    }
    let loaded = source.peek("/proc/modules", 1_024 * 1_024).await.unwrap_or_default();
    let loaded: BTreeSet<&str> = loaded.lines().filter_map(|line| line.split_whitespace().next()).collect();
    json!({ "disabled": disabled, "blacklisted": blacklisted, "loaded": loaded })
}

pub(super) async fn cron(source: &mut Source<'_>) -> Value {
    let installed = source.any_exists(&["/usr/sbin/cron", "/usr/sbin/crond", "/sbin/crond"]).await;
    let mut out = Map::from_iter([("installed".to_owned(), Value::Bool(installed))]);
    let paths = [
        ("crontab", "/etc/crontab"),
        ("hourly", "/etc/cron.hourly"),
        ("daily", "/etc/cron.daily"),
        ("weekly", "/etc/cron.weekly"),
        ("monthly", "/etc/cron.monthly"),
        ("d", "/etc/cron.d"),
        ("allow", "/etc/cron.allow"),
        ("deny", "/etc/cron.deny"),
        ("at_allow", "/etc/at.allow"),
        ("at_deny", "/etc/at.deny"),
    ];
    for (name, path) in paths {
        out.insert(name.to_owned(), source.file(path).await);
    }
    out.into()
}

pub(super) async fn limits(source: &mut Source<'_>) -> Value {
    let mut paths = vec!["/etc/security/limits.conf".to_owned()];
    paths.extend(source.glob("/etc/security/limits.d/*.conf").await);
    let mut core = None;
    for path in paths {
        for (_, line) in text::lines(&source.config(&path).await.unwrap_or_default()) {
            if let ["*", "hard" | "-", "core", value, ..] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
                core = Some((*value).to_owned());
            }
        }
    }
    let mut dump = BTreeMap::new();
    for path in
        [vec!["/etc/systemd/coredump.conf".to_owned()], source.glob("/etc/systemd/coredump.conf.d/*.conf").await]
            .concat()
    {
        dump.extend(text::assignments(&source.config(&path).await.unwrap_or_default()));
    }
    let (mut timeout, mut umask) = (None, None);
    for path in [
        vec!["/etc/profile".to_owned(), "/etc/bash.bashrc".to_owned(), "/etc/bashrc".to_owned()],
        source.glob("/etc/profile.d/*.sh").await,
    ]
    .concat()
    {
        let script = source.config(&path).await.unwrap_or_default();
        for (_, line) in text::lines(&script) {
            for part in line.split(';').map(str::trim) {
                let part = ["export ", "readonly ", "typeset -xr ", "declare -xr "]
                    .iter()
                    .fold(part, |part, word| part.strip_prefix(word).unwrap_or(part));
                if let Some(seconds) = part.strip_prefix("TMOUT=") {
                    timeout = text::unquote(seconds).parse::<i64>().ok().or(timeout);
                } else if let Some(mask) = part.strip_prefix("umask ") {
                    umask = Some(mask.trim().to_owned());
                }
            }
        }
    }
    json!({
        "core_configured": core.is_some(), "core_hard": core, "coredump_storage": dump.get("Storage"),
        "coredump_process_size_max": dump.get("ProcessSizeMax"), "shell_timeout": timeout, "umask": umask,
    })
}

/// What audit rules watch: `-w path`, `-S call,call`, `-k key`, and `-e 2`.
#[derive(Debug, Default)]
struct AuditRules {
    rules: usize,
    watches: BTreeSet<String>,
    syscalls: BTreeSet<String>,
    keys: BTreeSet<String>,
    immutable: bool,
}

impl AuditRules {
    fn read(&mut self, text: &str) {
        for (_, line) in text::lines(text) {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.rules += usize::from(matches!(words.first(), Some(&("-w" | "-a" | "-A"))));
            for pair in words.windows(2) {
                match pair {
                    ["-w", path] => _ = self.watches.insert((*path).to_owned()),
                    ["-F", filter] => {
                        if let Some((name, value)) = filter.split_once('=') {
                            match name {
                                "path" | "dir" => _ = self.watches.insert(value.to_owned()),
                                "key" => _ = self.keys.insert(value.to_owned()),
                                _ => {}
                            }
                        }
                    }
                    ["-S", calls] => self.syscalls.extend(calls.split(',').map(str::to_owned)),
                    ["-k", key] => _ = self.keys.insert((*key).to_owned()),
                    ["-e", value] => self.immutable = *value == "2",
                    _ => {}
                }
            }
        }
    }
}

pub(super) async fn audit(source: &mut Source<'_>) -> Value {
    let cmdline = source.peek("/proc/cmdline", 64 * 1_024).await.unwrap_or_default();
    let boot: BTreeMap<&str, &str> = cmdline.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let boot = json!({ "boot_enabled": boot.get("audit") == Some(&"1"), "backlog_limit": boot.get("audit_backlog_limit").map(|n| text::scalar(n)) });
    if !source.any_exists(&["/sbin/auditd", "/usr/sbin/auditd"]).await {
        return merged(json!({ "installed": false, "enabled": false }), boot);
    }
    let mut rules = AuditRules::default();
    for path in [vec!["/etc/audit/audit.rules".to_owned()], source.glob("/etc/audit/rules.d/*.rules").await].concat() {
        // audit.rules is generated from rules.d; reading both would count twice.
        if path.ends_with("/audit.rules")
            && path.starts_with("/etc/audit/audit")
            && !source.glob("/etc/audit/rules.d/*.rules").await.is_empty()
        {
            continue;
        }
        rules.read(&source.config(&path).await.unwrap_or_default());
    }
    let config = text::assignments(&source.config("/etc/audit/auditd.conf").await.unwrap_or_default());
    let word = |key: &str| config.get(key).map(|value| value.to_ascii_lowercase());
    let facts = json!({
        "installed": true, "enabled": starts(source, &["auditd"]).await, "rules": rules.rules, "watches": rules.watches, "syscalls": rules.syscalls,
        "keys": rules.keys, "immutable": rules.immutable, "max_log_file": config.get("max_log_file").map(|n| text::scalar(n)),
        "max_log_file_action": word("max_log_file_action"), "space_left_action": word("space_left_action"),
        "admin_space_left_action": word("admin_space_left_action"), "disk_full_action": word("disk_full_action"),
        "disk_error_action": word("disk_error_action"),
    });
    merged(facts, boot)
}

pub(super) async fn time_sync(source: &mut Source<'_>) -> Value {
    let mut daemons = Vec::new();
    for (name, units) in [
        ("chrony", ["chrony", "chronyd"]),
        ("systemd-timesyncd", ["systemd-timesyncd", "dbus-org.freedesktop.timesync1"]),
        ("ntp", ["ntp", "ntpd"]),
        ("ntpsec", ["ntpsec", "ntpsec"]),
        ("openntpd", ["openntpd", "openntpd"]),
    ] {
        let timesync = name == "systemd-timesyncd"
            && !source.any_exists(&["/lib/systemd/systemd-timesyncd", "/usr/lib/systemd/systemd-timesyncd"]).await;
        if !timesync && starts(source, &units).await {
            daemons.push(name);
        }
    }
    let mut servers = BTreeSet::new();
    let mut paths: Vec<String> =
        ["/etc/chrony/chrony.conf", "/etc/chrony.conf", "/etc/ntp.conf", "/etc/ntpsec/ntp.conf"]
            .map(str::to_owned)
            .to_vec();
    paths.extend(source.glob("/etc/chrony/sources.d/*.sources").await);
    for path in paths {
        for (key, value) in text::words(&source.config(&path).await.unwrap_or_default()) {
            if ["server", "pool", "peer"].contains(&key) {
                servers.extend(value.split_whitespace().next().map(str::to_owned));
            }
        }
    }
    for path in
        [vec!["/etc/systemd/timesyncd.conf".to_owned()], source.glob("/etc/systemd/timesyncd.conf.d/*.conf").await]
            .concat()
    {
        let values = text::assignments(&source.config(&path).await.unwrap_or_default());
        servers.extend(values.get("NTP").into_iter().flat_map(|list| list.split_whitespace()).map(str::to_owned));
    }
    json!({ "enabled": !daemons.is_empty(), "daemons": daemons, "servers": servers })
}

pub(super) async fn integrity_tool(source: &mut Source<'_>) -> Value {
    for (name, programs, databases) in [
        ("aide", ["/usr/bin/aide", "/usr/sbin/aide"], ["/var/lib/aide/aide.db", "/var/lib/aide/aide.db.gz"]),
        ("tripwire", ["/usr/sbin/tripwire", "/usr/local/sbin/tripwire"], ["/var/lib/tripwire", "/var/lib/tripwire"]),
        ("samhain", ["/usr/sbin/samhain", "/usr/local/sbin/samhain"], ["/var/lib/samhain", "/var/lib/samhain"]),
    ] {
        if source.any_exists(&programs).await {
            let mut scheduled = starts(source, &["aidecheck.timer", "dailyaidecheck.timer"]).await;
            scheduled |= !source.glob(&format!("/etc/cron.*/*{name}*")).await.is_empty();
            for path in [vec!["/etc/crontab".to_owned()], source.glob("/var/spool/cron/crontabs/root").await].concat() {
                scheduled |= source
                    .peek(&path, 256 * 1_024)
                    .await
                    .is_some_and(|tab| text::lines(&tab).any(|(_, line)| line.contains(name)));
            }
            return json!({ "installed": true, "name": name, "scheduled": scheduled, "database": source.any_exists(&databases).await });
        }
    }
    json!({ "installed": false })
}

pub(super) async fn lsm(source: &mut Source<'_>) -> Value {
    let active = source.value("/sys/kernel/security/lsm", true).await;
    let active: Vec<&str> = active.as_deref().map(|list| list.split(',').collect()).unwrap_or_default();
    let enabled = source.value("/sys/module/apparmor/parameters/enabled", true).await.as_deref() == Some("Y");
    let profiles =
        if enabled { source.peek("/sys/kernel/security/apparmor/profiles", 4 * 1_024 * 1_024).await } else { None };
    let count = |mode: &str| profiles.as_deref().map(|text| text.lines().filter(|line| line.ends_with(mode)).count());
    let configured = text::assignments(&source.config("/etc/selinux/config").await.unwrap_or_default());
    let enforce = source.value("/sys/fs/selinux/enforce", true).await;
    let mode = match enforce.as_deref() {
        Some("1") => "enforcing",
        Some(_) => "permissive",
        None => "disabled",
    };
    json!({
        "active": active,
        "apparmor": { "enabled": enabled, "profiles": count(")"), "enforce": count("(enforce)"), "complain": count("(complain)") },
        "selinux": { "installed": !configured.is_empty(), "mode": mode, "configured_mode": configured.get("SELINUX"), "policy": configured.get("SELINUXTYPE") },
    })
}

pub(super) async fn banners(source: &mut Source<'_>) -> Value {
    let id = text::assignments(&source.value("/etc/os-release", false).await.unwrap_or_default())
        .remove("ID")
        .unwrap_or_default();
    let release = source.peek("/etc/os-release", 64 * 1_024).await.unwrap_or_default();
    let id = text::assignments(&release).remove("ID").unwrap_or(id).to_ascii_lowercase();
    let mut out = Map::new();
    for (name, path) in [("motd", "/etc/motd"), ("issue", "/etc/issue"), ("issue_net", "/etc/issue.net")] {
        let file = source.file(path).await;
        let text = source.config(path).await.unwrap_or_default();
        let leaks = ["\\m", "\\r", "\\s", "\\v"].iter().any(|code| text.contains(code))
            || (!id.is_empty() && text.to_ascii_lowercase().contains(&id));
        out.insert(
            name.to_owned(),
            merged(file, json!({ "text_present": !text.trim().is_empty(), "leaks_os": leaks })),
        );
    }
    out.into()
}

pub(super) async fn logging(source: &mut Source<'_>) -> Value {
    let mut journald = BTreeMap::new();
    for path in
        [vec!["/etc/systemd/journald.conf".to_owned()], source.glob("/etc/systemd/journald.conf.d/*.conf").await]
            .concat()
    {
        journald.extend(text::assignments(&source.config(&path).await.unwrap_or_default()));
    }
    let installed = source.any_exists(&["/usr/sbin/rsyslogd", "/sbin/rsyslogd"]).await;
    let (mut mode, mut remote) = (None, false);
    if installed {
        for path in [vec!["/etc/rsyslog.conf".to_owned()], source.glob("/etc/rsyslog.d/*.conf").await].concat() {
            let config = source.config(&path).await.unwrap_or_default();
            for (_, line) in text::lines(&config) {
                mode = line.strip_prefix("$FileCreateMode").map(|mode| mode.trim().to_owned()).or(mode);
                remote |= line.contains("omfwd")
                    || line.split_whitespace().nth(1).is_some_and(|target| target.starts_with('@'));
            }
        }
    }
    let storage = journald.get("Storage").map(String::as_str);
    let persistent = storage == Some("persistent")
        || (storage.is_none_or(|storage| storage == "auto") && source.exists("/var/log/journal").await);
    json!({
        "journald": {
            "storage": storage.unwrap_or("auto"), "compress": truth(journald.get("Compress").map(String::as_str)).unwrap_or(true),
            "forward_to_syslog": truth(journald.get("ForwardToSyslog").map(String::as_str)),
        },
        "rsyslog": { "installed": installed, "file_create_mode": mode, "remote": remote },
        "log_dir": source.file("/var/log").await, "persistent": persistent,
    })
}

pub(super) async fn files(source: &mut Source<'_>) -> Value {
    let mut out = Map::new();
    for (name, path) in [
        ("passwd", "/etc/passwd"),
        ("shadow", "/etc/shadow"),
        ("group", "/etc/group"),
        ("gshadow", "/etc/gshadow"),
        ("passwd_backup", "/etc/passwd-"),
        ("shadow_backup", "/etc/shadow-"),
        ("group_backup", "/etc/group-"),
        ("gshadow_backup", "/etc/gshadow-"),
        ("shells", "/etc/shells"),
        ("opasswd", "/etc/security/opasswd"),
        ("hosts_allow", "/etc/hosts.allow"),
        ("hosts_deny", "/etc/hosts.deny"),
        ("securetty", "/etc/securetty"),
        ("ssh_config", "/etc/ssh/ssh_config"),
        ("root_home", "/root"),
        ("tmp", "/tmp"),
        ("var_tmp", "/var/tmp"),
        ("fstab", "/etc/fstab"),
        ("crypttab", "/etc/crypttab"),
    ] {
        out.insert(name.to_owned(), source.file(path).await);
    }
    out.into()
}

pub(super) async fn package_manager(source: &mut Source<'_>) -> Value {
    let (mut unsigned, mut sources, mut unattended) = (false, BTreeSet::new(), false);
    for path in [vec!["/etc/apt/sources.list".to_owned()], source.glob("/etc/apt/sources.list.d/*").await].concat() {
        let list = source.peek(&path, 1_024 * 1_024).await.unwrap_or_default();
        for (_, line) in text::lines(&list) {
            let lower = line.to_ascii_lowercase();
            unsigned |= lower.contains("trusted=yes")
                || lower == "trusted: yes"
                || lower.contains("allow-insecure=yes")
                || lower == "allow-insecure: yes";
            sources.extend(line.split_whitespace().filter(|word| word.contains("://")).map(text::without_secret));
        }
    }
    for path in [vec!["/etc/apt/apt.conf".to_owned()], source.glob("/etc/apt/apt.conf.d/*").await].concat() {
        let config = source.peek(&path, 1_024 * 1_024).await.unwrap_or_default();
        for (_, line) in text::lines(&config).filter(|(_, line)| !line.starts_with("//")) {
            let on = line.contains("\"1\"") || line.contains("\"true\"");
            unattended |= line.starts_with("APT::Periodic::Unattended-Upgrade") && on;
            unsigned |= on && (line.contains("AllowUnauthenticated") || line.contains("AllowInsecureRepositories"));
        }
    }
    let (mut gpgcheck, mut unchecked) = (None, BTreeSet::new());
    for path in
        [vec!["/etc/yum.conf".to_owned(), "/etc/dnf/dnf.conf".to_owned()], source.glob("/etc/yum.repos.d/*.repo").await]
            .concat()
    {
        for (section, key, value) in text::ini(&source.peek(&path, 1_024 * 1_024).await.unwrap_or_default()) {
            match key.as_str() {
                "gpgcheck" if section == "main" => gpgcheck = truth(Some(&value)),
                "gpgcheck" if truth(Some(&value)) == Some(false) => _ = unchecked.insert(section),
                "baseurl" | "mirrorlist" | "metalink" => _ = sources.insert(text::without_secret(&value)),
                _ => {}
            }
        }
    }
    for (_, line) in text::lines(&source.peek("/etc/apk/repositories", 64 * 1_024).await.unwrap_or_default()) {
        sources.insert(text::without_secret(line));
    }
    json!({
        "apt_unsigned_allowed": unsigned, "gpgcheck": gpgcheck, "gpgcheck_disabled_repos": unchecked, "unattended_upgrades": unattended,
        "reboot_required": source.exists("/var/run/reboot-required").await || source.exists("/run/reboot-required").await, "sources": sources,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pam_lines_with_bracketed_controls_are_read() {
        let got = pam_line("auth [success=1 default=ignore] pam_unix.so nullok").unwrap();
        assert_eq!(got, ("auth", "pam_unix", vec!["nullok"]));
        assert_eq!(pam_line("-session optional /lib/security/pam_x.so").unwrap().1, "pam_x");
        assert_eq!(pam_line("auth [broken"), None);
    }

    #[test]
    fn audit_rules_are_summed_up() {
        let mut rules = AuditRules::default();
        rules.read("-D\n-w /etc/passwd -p wa -k identity\n-a always,exit -F arch=b64 -S adjtimex,settimeofday -F key=time\n-e 2\n");
        assert_eq!((rules.rules, rules.immutable), (2, true));
        assert!(
            rules.watches.contains("/etc/passwd") && rules.syscalls.contains("adjtimex") && rules.keys.contains("time")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,200}") {
            let _ = (pam_line(&text), options(&text, std::slice::from_ref(&text)));
            AuditRules::default().read(&text);
        }
    }
}
