//! passwd(5), group(5), the redacted shadow(5), home directories and authorized keys.

use std::collections::{BTreeMap, BTreeSet};

use domain::Result;
use serde_json::{Value, json};
use transport::FileKind;

use super::scope::{Scope, Source};
use super::{sudoers, text};

const ACCOUNTS: usize = 50_000;
/// Home directories of at most so many people are looked into.
const HOMES: usize = 2_000;
/// Modes of at most so many hidden files of a home are read.
const DOT_FILES: usize = 500;
const AUTHORIZED_KEYS_BYTES: usize = 1_024 * 1_024;

/// A line of passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    password: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    gecos: String,
    pub(super) home: String,
    shell: String,
}

impl User {
    fn logs_in(&self) -> bool {
        !self.shell.is_empty() && !["nologin", "false", "sync", "shutdown", "halt"].contains(&text::base(&self.shell))
    }
}

/// A line of group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Lines split at `:` with at least `parts` parts; the numbers of the others.
fn table(text: &str, parts: usize) -> (Vec<Vec<&str>>, Vec<usize>) {
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text::lines(text).take(ACCOUNTS) {
        let row: Vec<&str> = line.split(':').collect();
        // NIS compatibility lines are reported as a fact of their own.
        if line.starts_with(['+', '-']) {
            continue;
        }
        if row.len() >= parts { rows.push(row) } else { wrong.push(number) }
    }
    (rows, wrong)
}

fn users(text: &str) -> (Vec<User>, Vec<usize>) {
    let (rows, mut wrong) = table(text, 7);
    let mut out = Vec::new();
    for row in rows {
        if let [name, password, uid, gid, gecos, home, shell, ..] = row.as_slice()
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            let [name, password, gecos, home, shell] =
                [name, password, gecos, home, shell].map(|part| (*part).to_owned());
            out.push(User { name, password, uid, gid, gecos, home, shell });
        } else {
            wrong.push(0);
        }
    }
    (out, wrong)
}

fn groups(text: &str) -> (Vec<Group>, Vec<usize>) {
    let (rows, mut wrong) = table(text, 4);
    let mut out = Vec::new();
    for row in rows {
        if let [name, _, gid, members, ..] = row.as_slice()
            && let Ok(gid) = gid.parse()
        {
            let members =
                members.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            out.push(Group { name: (*name).to_owned(), gid, members });
        } else {
            wrong.push(0);
        }
    }
    (out, wrong)
}

/// What `transport` leaves of a shadow line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shadow {
    state: String,
    algorithm: Option<String>,
    days: [Option<i64>; 6],
}

fn shadows(text: &str) -> BTreeMap<String, Shadow> {
    let mut out = BTreeMap::new();
    for row in table(text, 2).0 {
        let [name, password, rest @ ..] = row.as_slice() else { continue };
        let mut words = password.split(' ');
        let state = words.next().unwrap_or_default().to_owned();
        let mut days = [None; 6];
        for (day, part) in days.iter_mut().zip(rest) {
            *day = part.parse().ok();
        }
        out.insert((*name).to_owned(), Shadow { state, algorithm: words.next().map(str::to_owned), days });
    }
    out
}

/// The accounts of the machine as the files show them.
#[derive(Debug, Default)]
struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
    shadow: Option<BTreeMap<String, Shadow>>,
    compat: bool,
}

impl Accounts {
    async fn read(source: &mut Source<'_>) -> Self {
        let mut out = Self::default();
        if let Some(passwd) = source.config("/etc/passwd").await {
            let (users, wrong) = users(&passwd);
            note(source, "/etc/passwd", &wrong);
            out.compat = passwd.lines().any(|line| line.starts_with('+'));
            out.users = users;
        }
        if let Some(group) = source.config("/etc/group").await {
            let (groups, wrong) = groups(&group);
            note(source, "/etc/group", &wrong);
            out.compat |= group.lines().any(|line| line.starts_with('+'));
            out.groups = groups;
        }
        out.shadow = source.config("/etc/shadow").await.map(|shadow| shadows(&shadow));
        out
    }

    /// The names and gids of a user's groups.
    fn groups_of(&self, user: &User) -> (Vec<String>, Vec<u32>) {
        let mine = self.groups.iter().filter(|group| group.gid == user.gid || group.members.contains(&user.name));
        mine.map(|group| (group.name.clone(), group.gid)).unzip()
    }

    fn state(&self, user: &User) -> (&str, Option<&Shadow>) {
        match (user.password.as_str(), &self.shadow) {
            ("x", None) => ("unknown", None),
            ("x", Some(shadow)) => {
                shadow.get(&user.name).map_or(("locked", None), |row| (row.state.as_str(), Some(row)))
            }
            ("", _) => ("none", None),
            ("*" | "!" | "!!" | "<locked>", _) => ("locked", None),
            _ => ("unshadowed", None),
        }
    }
}

fn note(source: &mut Source<'_>, path: &str, wrong: &[usize]) {
    for line in wrong.iter().take(3) {
        if *line > 0 {
            source.problem(format!("{path}:{line}: too few fields"));
        } else {
            source.problem(format!("{path}: an id is not a number"));
        }
    }
}

fn twice<T: Ord + Clone>(items: impl Iterator<Item = T>) -> Vec<T> {
    let (mut seen, mut again) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        if !seen.insert(item.clone()) {
            again.insert(item);
        }
    }
    again.into_iter().collect()
}

/// The `access` map of the machine: facts about all accounts together.
pub(super) async fn summary(source: &mut Source<'_>) -> Value {
    let accounts = Accounts::read(source).await;
    let (users, groups) = (&accounts.users, &accounts.groups);
    let names = |state: &str| -> Vec<&str> {
        users.iter().filter(|user| accounts.state(user).0 == state).map(|user| user.name.as_str()).collect()
    };
    let gids: BTreeSet<u32> = groups.iter().map(|group| group.gid).collect();
    let missing: BTreeSet<u32> = users.iter().map(|user| user.gid).filter(|gid| !gids.contains(gid)).collect();
    let shadow_gid = groups.iter().find(|group| group.name == "shadow");
    let shadow_members: BTreeSet<&str> = shadow_gid.map_or_else(BTreeSet::new, |group| {
        users
            .iter()
            .filter(|user| user.gid == group.gid)
            .map(|user| user.name.as_str())
            .chain(group.members.iter().map(String::as_str))
            .collect()
    });
    let ttys = source.config("/etc/securetty").await.map(|ttys| text::lines(&ttys).count());
    let mut path_insecure = Vec::new();
    for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if let Some(stat) = source.stat_followed(dir).await
            && (stat.mode & 0o022 != 0 || stat.uid != 0)
        {
            path_insecure.push(dir);
        }
    }
    json!({
        "root_login_ttys": ttys, "empty_password_users": names("none"), "unshadowed_users": names("unshadowed"),
        "uid0_users": users.iter().filter(|user| user.uid == 0).map(|user| &user.name).collect::<Vec<_>>(),
        "root_gid": users.iter().find(|user| user.name == "root").map(|user| user.gid),
        "duplicate_uids": twice(users.iter().map(|user| user.uid)), "duplicate_gids": twice(groups.iter().map(|group| group.gid)),
        "duplicate_users": twice(users.iter().map(|user| &user.name)), "duplicate_groups": twice(groups.iter().map(|group| &group.name)),
        "shadow_group_members": shadow_members, "missing_gids": missing, "root_path_insecure": path_insecure, "legacy_plus_entries": accounts.compat,
        "rhosts_files": present(source, users, ".rhosts").await,
    })
}

async fn present(source: &mut Source<'_>, users: &[User], name: &str) -> Vec<String> {
    let homes: BTreeSet<&str> =
        users.iter().filter(|user| user.logs_in()).map(|user| user.home.as_str()).take(HOMES).collect();
    let mut out = Vec::new();
    for home in homes.into_iter().filter(|home| home.len() > 1 && home.starts_with('/')) {
        let path = text::join(home, name);
        if source.stat(&path).await.is_some() {
            out.push(path);
        }
    }
    out
}

/// Type and fingerprint of each key of an authorized_keys file; options before the type are skipped.
fn keys(file: &str) -> (BTreeSet<String>, BTreeSet<String>, usize) {
    let (mut types, mut prints, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (_, line) in text::lines(file) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            if let [kind, blob] = pair
                && ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix))
                && let Some(print) = transport::local::ssh_key_fingerprint(blob)
            {
                types.insert((*kind).to_owned());
                prints.insert(print);
                count += 1;
                break;
            }
        }
    }
    (types, prints, count)
}

/// The part of a user's properties that is in the home directory. What was refused is not there, and named in `unread`.
async fn home(source: &mut Source<'_>, user: &User) -> Value {
    if user.home.len() < 2 || !user.home.starts_with('/') {
        return json!({});
    }
    let mark = source.mark();
    let Some(stat) = source.stat_followed(&user.home).await else {
        let known = source.read_since(mark);
        return if known { json!({ "home_exists": false }) } else { json!({ "unread": ["home_exists"] }) };
    };
    let bit = |mask: u32| stat.mode & mask != 0;
    let mut facts = json!({
        "home_exists": stat.kind == FileKind::Dir, "home_mode": text::octal(stat.mode), "home_owner_uid": stat.uid,
        "home_world_readable": bit(0o004), "home_world_writable": bit(0o002), "home_group_writable": bit(0o020),
    });
    let mut unread = Vec::new();
    for (part, known) in [dot_files(source, user).await, authorized(source, user).await] {
        match part {
            Value::Object(part) if !known => unread.extend(part.into_iter().map(|(name, _)| name)),
            part => facts = merged(facts, part),
        }
    }
    if unread.is_empty() { facts } else { merged(facts, json!({ "unread": unread })) }
}

/// What the names and modes of the hidden files tell, and whether all of it could be read.
async fn dot_files(source: &mut Source<'_>, user: &User) -> (Value, bool) {
    let mark = source.mark();
    let (mut writable, mut special) = (Vec::new(), BTreeSet::new());
    let entries = source.list(&user.home).await.into_iter();
    let hidden = entries.filter(|entry| entry.name.starts_with('.') && entry.kind == FileKind::File);
    for (index, entry) in hidden.enumerate() {
        let path = text::join(&user.home, &entry.name);
        special.insert(entry.name);
        if index < DOT_FILES && source.stat(&path).await.is_some_and(|stat| stat.mode & 0o022 != 0) {
            writable.push(path);
        }
    }
    let facts = json!({
        "dot_files_writable": writable, "forward_file": special.contains(".forward"), "netrc_file": special.contains(".netrc"),
        "rhosts_file": special.contains(".rhosts"),
    });
    (facts, source.read_since(mark))
}

/// The keys that may sign in, and whether all of them could be read.
async fn authorized(source: &mut Source<'_>, user: &User) -> (Value, bool) {
    let mark = source.mark();
    let (mut types, mut prints, mut count, mut mode) = (BTreeSet::new(), BTreeSet::new(), 0, None);
    for name in ["authorized_keys", "authorized_keys2"].into_iter().filter(|_| user.logs_in()) {
        let path = format!("{}/.ssh/{name}", user.home);
        if let Some(file) = source.peek(&path, AUTHORIZED_KEYS_BYTES).await {
            let (more_types, more_prints, more) = keys(&file);
            types.extend(more_types);
            prints.extend(more_prints);
            count += more;
            mode = mode.or(source.stat_followed(&path).await.map(|stat| text::octal(stat.mode)));
        }
    }
    let facts = json!({
        "authorized_keys": count, "authorized_key_types": types, "authorized_key_fingerprints": prints, "authorized_keys_mode": mode,
    });
    (facts, source.read_since(mark))
}

/// Users, groups and who is in what.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let accounts = Accounts::read(&mut scope.source).await;
    let sudo = sudoers::read(&mut scope.source).await.unwrap_or_default();
    let login_defs = scope.source.config("/etc/login.defs").await.unwrap_or_default();
    let limit = |key: &str, default: u32| {
        text::words(&login_defs)
            .filter(|(k, _)| *k == key)
            .filter_map(|(_, v)| v.parse().ok())
            .last()
            .unwrap_or(default)
    };
    let (uid_min, uid_max) = (limit("UID_MIN", 1_000), limit("UID_MAX", 60_000));
    for group in &accounts.groups {
        let primary: Vec<&str> =
            accounts.users.iter().filter(|user| user.gid == group.gid).map(|user| user.name.as_str()).collect();
        let properties =
            json!({ "name": group.name, "gid": group.gid, "members": group.members, "primary_members": primary });
        scope.node("host.group", &group.name, &group.name, properties).await?;
    }
    for (index, user) in accounts.users.iter().enumerate() {
        let (groups, gids) = accounts.groups_of(user);
        let (state, shadow) = accounts.state(user);
        let (sudo, free) = sudo.rights(&user.name, user.uid, &groups, &gids);
        let days = shadow.map_or([None; 6], |shadow| shadow.days);
        let [changed, min, max, warn, inactive, expires] = days;
        let properties = json!({
            "name": user.name, "uid": user.uid, "gid": user.gid, "gecos": user.gecos, "home": user.home, "shell": user.shell,
            "is_system": user.uid != 0 && (user.uid < uid_min || (user.uid > uid_max && !user.logs_in())), "is_root": user.uid == 0,
            "login_shell": user.logs_in(), "password_state": state, "password_algorithm": shadow.and_then(|shadow| shadow.algorithm.clone()),
            "password_changed": changed.and_then(text::date), "password_min_days": min, "password_max_days": max, "password_warn_days": warn,
            "password_inactive_days": inactive, "account_expires": expires.and_then(text::date), "sudo": sudo || user.uid == 0, "sudo_nopasswd": free,
            "groups": groups,
        });
        let home = if index < HOMES { home(&mut scope.source, user).await } else { json!({}) };
        let properties = merged(properties, home);
        let id = scope.node("host.user", &user.name, &user.name, properties).await?;
        for group in &groups {
            let group = scope.host.node("host.group", group)?;
            scope.edge(&id, &group, "member_of").await?;
        }
    }
    let gone = accounts.users.is_empty() && accounts.groups.is_empty();
    Ok(gone.then(|| "there is no /etc/passwd and no /etc/group".into()))
}

/// One object with the keys of both.
pub(super) fn merged(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_with_too_few_fields_are_named_and_the_rest_is_read() {
        let (got, wrong) = users("root:x:0:0:root:/root:/bin/bash\nbroken:x\n+::::::\nx:x:minus:0:::\n");
        assert_eq!((got.len(), wrong), (1, vec![2, 0]));
        assert!(got[0].logs_in());
        let (got, _) = groups("sudo:x:27:a, b,\n");
        assert_eq!(got[0].members, ["a", "b"]);
    }

    #[test]
    fn redacted_shadow_lines_give_state_algorithm_and_ages() {
        let got = shadows("root:set yescrypt:19782:0:99999:7:::\nd:locked:1::::::\n");
        assert_eq!((got["root"].state.as_str(), got["root"].algorithm.as_deref()), ("set", Some("yescrypt")));
        assert_eq!(got["root"].days[..4], [Some(19_782), Some(0), Some(99_999), Some(7)]);
        assert_eq!(got["d"].algorithm, None);
    }

    #[test]
    fn keys_are_found_behind_their_options() {
        let file = "command=\"a b\",no-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me\n# c\nrubbish\n";
        let (types, prints, count) = keys(file);
        assert_eq!((types.len(), prints.len(), count), (1, 1, 1));
        assert!(prints.first().unwrap().starts_with("SHA256:"));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,200}") {
            let _ = (users(&text), groups(&text), shadows(&text), keys(&text));
        }
    }
}
