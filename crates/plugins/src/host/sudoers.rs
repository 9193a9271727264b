//! `sudoers(5)`: who may run what as whom, aliases resolved; Defaults; includes.

use std::collections::BTreeMap;

use domain::Result;
use serde_json::{Map, Value, json};

use super::scope::{Scope, Source};
use super::text;

const MAIN: &str = "/etc/sudoers";
const FILES: usize = 256;
const RULES: usize = 5_000;
/// Most names that an alias resolves to, and how deep aliases may nest.
const ALIAS_NAMES: usize = 500;
const ALIAS_DEPTH: usize = 8;

/// One right: a principal, where, as whom, what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule {
    pub(super) principal: String,
    hosts: Vec<String>,
    run_as: Vec<String>,
    run_as_groups: Vec<String>,
    tags: Vec<String>,
    commands: Vec<String>,
    file: String,
}

impl Rule {
    fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    pub(super) fn nopasswd(&self) -> bool {
        self.has("NOPASSWD")
    }

    fn kind(&self) -> &'static str {
        match self.principal.as_bytes() {
            [b'%', b'#', ..] => "gid",
            [b'%', ..] => "group",
            [b'#', ..] => "uid",
            [b'+', ..] => "netgroup",
            _ if self.principal == "ALL" => "all",
            _ => "user",
        }
    }
}

/// What all files together say.
#[derive(Debug, Default)]
pub(super) struct Sudoers {
    pub(super) rules: Vec<Rule>,
    defaults: Map<String, Value>,
    aliases: BTreeMap<(&'static str, String), Vec<String>>,
    files: usize,
}

/// `text` cut at each `separator` outside quotes and parentheses; a backslash keeps the next character's meaning away.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut out, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut depth, mut escaped) = (false, 0usize, false);
    for c in text.chars() {
        if !escaped && c == '"' {
            quoted = !quoted;
        } else if !escaped && !quoted {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if c == separator && depth == 0 {
                out.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
        }
        escaped = c == '\\' && !escaped;
        part.push(c);
    }
    out.push(part.trim().to_owned());
    out.retain(|part| !part.is_empty());
    out
}

/// The line before a comment: `#` begins one unless a number follows (a uid or gid) or it is escaped or quoted.
fn without_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let mut quoted = false;
    for (i, byte) in bytes.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| bytes.get(i));
        match byte {
            b'"' if before != Some(&b'\\') => quoted = !quoted,
            b'#' if !quoted && before != Some(&b'\\') && !bytes.get(i + 1).is_some_and(u8::is_ascii_digit) => {
                return line.get(..i).unwrap_or(line);
            }
            _ => {}
        }
    }
    line
}

enum Line {
    Include(String),
    IncludeDir(String),
    Read,
    Wrong,
}

impl Sudoers {
    fn line(&mut self, line: &str, file: &str) -> Line {
        for (marker, dir) in [("includedir", true), ("include", false)] {
            let rest = line
                .strip_prefix(['#', '@'])
                .and_then(|rest| rest.strip_prefix(marker))
                .filter(|rest| rest.starts_with(char::is_whitespace));
            if let Some(rest) = rest {
                let path = text::unquote(rest.trim()).to_owned();
                return if dir { Line::IncludeDir(path) } else { Line::Include(path) };
            }
        }
        let line = without_comment(line).trim();
        if line.is_empty() {
            return Line::Read;
        }
        if let Some(rest) = line.strip_prefix("Defaults") {
            return self.default_setting(rest);
        }
        for alias in ["User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"] {
            if let Some(rest) = line.strip_prefix(alias).filter(|rest| rest.starts_with(char::is_whitespace)) {
                let alias = if alias == "Cmd_Alias" { "Cmnd_Alias" } else { alias };
                for definition in split(rest, ':') {
                    let Some((name, members)) = definition.split_once('=') else { return Line::Wrong };
                    self.aliases.insert((alias, name.trim().to_owned()), split(members, ','));
                }
                return Line::Read;
            }
        }
        if self.rule(line, file).is_some() { Line::Read } else { Line::Wrong }
    }

    /// `Defaults[@:!>where] flag, !flag, key=value, key+=value`; those for some users, hosts or commands only are kept under `where`.
    fn default_setting(&mut self, rest: &str) -> Line {
        let (scope, settings) = match rest.chars().next() {
            Some(c) if c.is_whitespace() => ("", rest),
            Some('@' | ':' | '!' | '>') => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            _ => return Line::Wrong,
        };
        for setting in split(settings, ',') {
            let (key, value) = match setting.split_once('=') {
                Some((key, value)) => {
                    (key.trim_end_matches(['+', '-']).trim(), Value::from(text::unquote(value.trim())))
                }
                None => setting
                    .strip_prefix('!')
                    .map_or((setting.as_str(), Value::Bool(true)), |flag| (flag.trim(), Value::Bool(false))),
            };
            let key = if scope.is_empty() { key.to_owned() } else { format!("{key}{scope}") };
            self.defaults.insert(key, value);
        }
        Line::Read
    }

    /// `users hosts = (run as) TAG: command, command : hosts = …`.
    fn rule(&mut self, line: &str, file: &str) -> Option<()> {
        let line = line.replace(char::is_whitespace, " ");
        let tight = line.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        let (left, right) = tight.split_once('=')?;
        let left = split(left, ' ');
        let (users, first_hosts) = left.split_first()?;
        // A second host list comes after ` : `, and has its own `=`.
        let mut specs = vec![(first_hosts.concat(), String::new())];
        for part in split(&right.replace(" : ", "\u{1}"), '\u{1}') {
            match part.split_once('=') {
                Some((hosts, rest)) if specs.last().is_some_and(|(_, commands)| !commands.is_empty()) => {
                    specs.push((hosts.trim().to_owned(), rest.to_owned()));
                }
                _ => specs.last_mut()?.1.push_str(&part),
            }
        }
        for (hosts, commands) in specs {
            if hosts.is_empty() || commands.is_empty() {
                return None;
            }
            let mut rule = Rule {
                hosts: split(&hosts, ','),
                run_as: vec!["root".into()],
                file: file.to_owned(),
                ..Rule::default()
            };
            let mut rules: Vec<Rule> = Vec::new();
            for command in split(&commands, ',') {
                let (command, changed) = rule_head(&mut rule, &command);
                match rules.last_mut() {
                    Some(last) if !changed => last.commands.push(command),
                    _ => rules.push(Rule { commands: vec![command], ..rule.clone() }),
                }
            }
            for user in split(users, ',') {
                self.rules.extend(rules.iter().map(|rule| Rule { principal: user.clone(), ..rule.clone() }));
            }
        }
        (self.rules.len() <= RULES).then_some(())
    }

    fn resolved(&self, alias: &'static str, names: &[String]) -> Vec<String> {
        let mut current: Vec<String> = names.to_vec();
        for _ in 0..ALIAS_DEPTH {
            let mut next = Vec::new();
            for name in &current {
                match self.aliases.get(&(alias, name.clone())) {
                    Some(members) if next.len() < ALIAS_NAMES => next.extend(members.iter().take(ALIAS_NAMES).cloned()),
                    _ => next.push(name.clone()),
                }
            }
            if next == current {
                break;
            }
            current = next;
        }
        current.truncate(ALIAS_NAMES);
        current
    }

    fn resolve(&mut self) {
        let rules = std::mem::take(&mut self.rules);
        let mut out = Vec::new();
        for rule in rules {
            let rule = Rule {
                hosts: self.resolved("Host_Alias", &rule.hosts),
                run_as: self.resolved("Runas_Alias", &rule.run_as),
                commands: self.resolved("Cmnd_Alias", &rule.commands),
                ..rule
            };
            for principal in self.resolved("User_Alias", std::slice::from_ref(&rule.principal)) {
                if out.len() < RULES && !principal.starts_with('!') {
                    out.push(Rule { principal, ..rule.clone() });
                }
            }
        }
        self.rules = out;
    }

    /// The principal's rules that give everything, and whether one needs no password.
    pub(super) fn rights(&self, user: &str, uid: u32, groups: &[String], gids: &[u32]) -> (bool, bool) {
        let mine = self.rules.iter().filter(|rule| {
            let name = rule.principal.as_str();
            name == user
                || name == "ALL"
                || name == format!("#{uid}")
                || name.strip_prefix('%').is_some_and(|group| {
                    groups.iter().any(|g| g == group)
                        || group
                            .strip_prefix('#')
                            .and_then(|gid| gid.parse().ok())
                            .is_some_and(|gid| gids.contains(&gid))
                })
        });
        mine.fold((false, false), |(_, free), rule| (true, free || rule.nopasswd()))
    }
}

/// Takes `(run as)`, `KEY=value` options and `TAG:`s off a command; says whether they differ from the command before.
fn rule_head(rule: &mut Rule, command: &str) -> (String, bool) {
    let before = (rule.run_as.clone(), rule.run_as_groups.clone(), rule.tags.clone());
    let mut rest = command.trim();
    if let Some((who, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        let (users, groups) = who.split_once(':').unwrap_or((who, ""));
        (rule.run_as, rule.run_as_groups) = (split(users, ','), split(groups, ','));
        rest = after.trim_start();
    }
    loop {
        let word = rest.split_whitespace().next().unwrap_or_default();
        let tag_end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(tag_end);
        if let Some(after) = after.strip_prefix(':').filter(|_| !name.is_empty()) {
            let opposite = name.strip_prefix("NO").map_or_else(|| format!("NO{name}"), str::to_owned);
            rule.tags.retain(|tag| *tag != opposite && tag != name);
            rule.tags.push(name.to_owned());
            rule.tags.sort();
            rest = after.trim_start();
        } else if ["ROLE=", "TYPE=", "PRIVS=", "LIMITPRIVS=", "TIMEOUT=", "NOTBEFORE=", "NOTAFTER=", "CWD=", "CHROOT="]
            .iter()
            .any(|o| word.starts_with(o))
        {
            rest = rest.strip_prefix(word).unwrap_or_default().trim_start();
        } else {
            break;
        }
    }
    let changed = before != (rule.run_as.clone(), rule.run_as_groups.clone(), rule.tags.clone());
    (rest.to_owned(), changed)
}

/// Reads /etc/sudoers and what it includes; nothing where it is not there or not readable.
pub(super) async fn read(source: &mut Source<'_>) -> Option<Sudoers> {
    let mut sudoers = Sudoers::default();
    let mut waiting = vec![MAIN.to_owned()];
    let mut read: Vec<String> = Vec::new();
    while let Some(path) = waiting.pop() {
        if read.contains(&path) || read.len() >= FILES {
            source.problem(format!("{path}: included twice or one of too many files"));
            continue;
        }
        let Some(config) = source.config(&path).await else { continue };
        let mut includes = Vec::new();
        let mut wrong = 0;
        for (number, line) in text::joined(&config) {
            match sudoers.line(line.trim(), &path) {
                Line::Read => {}
                Line::Include(name) => includes.push(text::join(text::parent(&path), &name)),
                Line::IncludeDir(name) => {
                    let dir = text::join(text::parent(&path), &name);
                    let entries = source.list(&dir).await;
                    // sudo skips names with a dot or a tilde at the end.
                    let names = entries
                        .iter()
                        .map(|entry| &entry.name)
                        .filter(|name| !name.contains('.') && !name.ends_with('~'));
                    includes.extend(names.map(|name| text::join(&dir, name)));
                }
                Line::Wrong => {
                    wrong += 1;
                    if wrong <= 3 {
                        source.problem(format!("{path}:{number}: not a line of sudoers(5)"));
                    }
                }
            }
        }
        read.push(path);
        waiting.extend(includes.into_iter().rev());
    }
    sudoers.files = read.len();
    sudoers.resolve();
    (!read.is_empty()).then_some(sudoers)
}

/// The `sudo` map of the machine.
pub(super) async fn summary(source: &mut Source<'_>) -> Value {
    let installed = source.any_exists(&["/usr/bin/sudo", "/usr/local/bin/sudo"]).await;
    let Some(sudoers) = read(source).await else { return json!({ "installed": installed }) };
    let flag = |name: &str| sudoers.defaults.get(name).is_some_and(|value| *value != Value::Bool(false));
    json!({
        "installed": installed, "config": source.file(MAIN).await, "rules": sudoers.rules.len(),
        "nopasswd_rules": sudoers.rules.iter().filter(|rule| rule.nopasswd()).count(),
        "no_authenticate": sudoers.defaults.get("authenticate") == Some(&Value::Bool(false)),
        "use_pty": flag("use_pty"), "logfile": sudoers.defaults.get("logfile"),
        "timestamp_timeout": sudoers.defaults.get("timestamp_timeout").and_then(Value::as_str).map(text::scalar),
        "files": sudoers.files, "defaults": sudoers.defaults,
    })
}

/// One node per rule.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let Some(sudoers) = read(&mut scope.source).await else {
        return Ok(Some("there is no /etc/sudoers".into()));
    };
    for rule in &sudoers.rules {
        let (principal, kind) = (&rule.principal, rule.kind());
        let what = format!(
            "{principal} {}=({}:{}) {} {}",
            rule.hosts.join(","),
            rule.run_as.join(","),
            rule.run_as_groups.join(","),
            rule.tags.join(" "),
            rule.commands.join(",")
        );
        let resource = if what.len() <= 600 {
            what.clone()
        } else {
            format!("{} {:016x}", text::printable(&what, 500), text::fnv(&what))
        };
        let properties = json!({
            "principal": principal, "principal_kind": kind, "hosts": rule.hosts, "run_as": rule.run_as, "run_as_groups": rule.run_as_groups,
            "commands": rule.commands, "nopasswd": rule.nopasswd(), "noexec": rule.has("NOEXEC"), "setenv": rule.has("SETENV"),
            "all_commands": rule.commands.iter().any(|command| command == "ALL"), "file": rule.file, "tags": rule.tags,
        });
        let id = scope.node("host.sudo_rule", &resource, &text::printable(&what, 120), properties).await?;
        let target = match kind {
            "user" => Some(scope.host.node("host.user", principal)?),
            "group" => Some(scope.host.node("host.group", principal.trim_start_matches('%'))?),
            _ => None,
        };
        if let Some(target) = target {
            scope.edge(&id, &target, "applies_to").await?;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Sudoers {
        let mut sudoers = Sudoers::default();
        for (number, line) in text::joined(text) {
            assert!(matches!(sudoers.line(line.trim(), "f"), Line::Read), "line {number}");
        }
        sudoers.resolve();
        sudoers
    }

    #[test]
    fn rules_carry_tags_and_run_as_forward_and_resolve_aliases() {
        let sudoers = read(
            "User_Alias ADMINS = alice, bob : OPS = carol\nCmnd_Alias WEB = /bin/systemctl restart nginx, \\\n /bin/true\n\
             Defaults !authenticate, logfile=\"/var/log/sudo.log\", use_pty # c\nADMINS ALL=(ALL:ALL) ALL\n%wheel ALL = (root) NOPASSWD: WEB, PASSWD: /bin/sh\n#1001 h1,h2=/bin/ls : h3=/bin/cat\n",
        );
        let names: Vec<&str> = sudoers.rules.iter().map(|rule| rule.principal.as_str()).collect();
        assert_eq!(names, ["alice", "bob", "%wheel", "%wheel", "#1001", "#1001"]);
        let wheel = &sudoers.rules[2];
        assert!(wheel.nopasswd() && !sudoers.rules[3].nopasswd());
        assert_eq!(wheel.commands, ["/bin/systemctl restart nginx", "/bin/true"]);
        assert_eq!(sudoers.rules[5].hosts, ["h3"]);
        assert_eq!(sudoers.defaults["authenticate"], Value::Bool(false));
        assert_eq!(sudoers.defaults["logfile"], "/var/log/sudo.log");
        assert_eq!(sudoers.rights("x", 7, &["wheel".into()], &[]), (true, true));
        assert_eq!(sudoers.rights("alice", 7, &[], &[]), (true, false));
    }

    #[test]
    fn an_alias_that_names_itself_ends() {
        let sudoers = read("User_Alias A = B, B : B = A, A\nA ALL=ALL\n");
        assert!(sudoers.rules.len() <= ALIAS_NAMES);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)[A-Za-z%#=(),: !\"\\\\\n]{0,300}") {
            let mut sudoers = Sudoers::default();
            for (_, line) in text::joined(&text) {
                let _ = sudoers.line(line.trim(), "f");
            }
            sudoers.resolve();
        }
    }
}
