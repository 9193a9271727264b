//! The script that makes a host's accounts: `cairn destinations host NAME --accounts` prints it, and root runs it there (ADR 0056).
//!
//! Invariants:
//! - an account that the script did not make is never changed, also one that somebody made under a name that was the script's: it has another uid;
//! - nothing is deleted: an account that is a role no more is locked, and its home stays;
//! - what `sudo` reads was checked by `visudo` before it is put in its place;
//! - nothing gets into the script but names and commands of plain letters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::failure::{Failure, Result};

/// Longest name of an account that Linux takes.
const NAME_MAX: usize = 32;
/// Longest command that may be run as root, in bytes.
const COMMAND_MAX: usize = 512;

/// The script behind the names.
const SCRIPT: &str = r#"
set -eu
umask 022
say() { echo "cairn: $*" >&2; }
[ "$(id -u)" = 0 ] || { say "run this as root"; exit 1; }
for need in useradd usermod getent; do
    command -v "$need" >/dev/null || { say "$need is missing"; exit 1; }
done
if [ -n "$sudoers" ]; then
    command -v visudo >/dev/null || { say "visudo is missing: install sudo, or leave out --sudo"; exit 1; }
fi
field() { getent passwd "$1" | cut -d: -f"$2"; }
# The accounts that this script made, each with its uid: it changes no other. A name alone may be somebody else's by now.
made=/var/lib/cairn/accounts
mkdir -p /var/lib/cairn
touch "$made"
# Lines from before the uid was written down: the account is still the one that was made if it says so.
while read -r account uid; do
    if [ -z "$uid" ]; then
        if [ "$(field "$account" 5)" = 'made by cairn' ]; then uid=$(field "$account" 3); else uid=unknown; fi
    fi
    echo "$account $uid"
done <"$made" >"$made.new"
mv "$made.new" "$made"
for account in $accounts; do
    if ! getent passwd "$account" >/dev/null; then
        # No password fits, and it is not locked: a certificate lets in.
        useradd --create-home --shell /bin/sh --password '*' --comment 'made by cairn' "$account"
        # Other roles read nothing there, whatever `useradd` does by itself.
        chmod 700 "$(field "$account" 6)"
        grep -v "^$account " "$made" >"$made.new" || true
        echo "$account $(field "$account" 3)" >>"$made.new"
        mv "$made.new" "$made"
        say "made $account"
    elif grep -qxF "$account $(field "$account" 3)" "$made"; then
        usermod --expiredate '' "$account"
    elif grep -q "^$account " "$made"; then
        say "$account is another account than the one that was made here: somebody made it anew, and it stays as it is"
    else
        say "$account was there before: it stays as it is"
    fi
done
while read -r account uid; do
    case " $accounts " in *" $account "*) continue ;; esac
    [ "$(field "$account" 3)" = "$uid" ] || continue
    usermod --expiredate 1 "$account"
    say "locked $account, whose home stays"
done <"$made"
rules=/etc/sudoers.d/cairn
if [ -n "$sudoers" ]; then
    new=$(mktemp)
    trap 'rm -f "$new"' EXIT
    printf '%s\n' "$sudoers" >"$new"
    visudo -cqf "$new" || { say "visudo does not take these rules: nothing of sudo was changed"; exit 1; }
    install -d -m 0755 /etc/sudoers.d
    install -m 0440 -o root -g root "$new" "$rules.new"
    mv "$rules.new" "$rules"
else
    rm -f "$rules"
fi
"#;

fn is_account(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    begins
        && name.len() <= NAME_MAX
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

/// A command with its path and arguments, in letters that mean nothing to `sudoers` or a shell.
fn is_command(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'@' | b' ' | b'+');
    text.len() <= COMMAND_MAX && text.starts_with('/') && text.bytes().all(plain) && !text.ends_with(' ')
}

/// The script for the accounts that are roles of a host. `sudo`: `ACCOUNT`, who may do everything, or `ACCOUNT=COMMAND`, who may do this.
pub(crate) fn script(host: &str, roles: &[String], sudo: &[String]) -> Result<String> {
    if let Some(odd) = roles.iter().find(|role| !is_account(role)) {
        return Err(Failure::new(format!("the role `{odd}` is no name of an account that Linux makes"))
            .hint("accounts are lower case: a-z, 0-9, _ and -; make this one by hand, or name another role"));
    }
    let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in sudo {
        let (account, command) =
            one.split_once('=').map_or((one.as_str(), "ALL"), |(account, command)| (account, command));
        if !roles.iter().any(|role| role == account) {
            return Err(Failure::usage(format!("--sudo: `{account}` is no role of this host")));
        }
        if command != "ALL" && !is_command(command) {
            return Err(Failure::usage(format!(
                "--sudo: `{command}` is no command with its whole path and plain arguments, such as `/usr/bin/systemctl restart app`"
            )));
        }
        rules.entry(account).or_default().push(command);
    }
    let mut lines = String::new();
    for (account, commands) in rules {
        // Writing to a `String` cannot fail.
        let _ = writeln!(lines, "{account} ALL=(ALL:ALL) NOPASSWD: {}", commands.join(", "));
    }
    Ok(format!(
        "#!/bin/sh\n# The accounts of {host}, from `cairn destinations host {host} --accounts`. Root runs it on the host, as often as it likes.\n\
         accounts='{}'\nsudoers='{}'{SCRIPT}",
        roles.join(" "),
        lines.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn made(roles: &[&str], sudo: &[&str]) -> Result<String> {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        script("web1", &owned(roles), &owned(sudo))
    }

    #[test]
    fn attack_ssh_nothing_gets_into_the_script_but_plain_names_and_commands() {
        for bad in ["a b", "a'b", "$(id)", "-x", "Ann", "a:b", "a.b", "", &"a".repeat(33), "a\nb"] {
            assert!(made(&[bad], &[]).is_err(), "{bad}");
        }
        for bad in [
            "root",
            "deploy=id",
            "deploy=/bin/sh -c 'id'",
            "deploy=/bin/a, /bin/b",
            "deploy=/bin/a\nann ALL=(ALL) ALL",
            "deploy=/bin/*",
            "deploy=!/bin/a",
            "deploy=",
        ] {
            assert!(made(&["deploy"], &[bad]).is_err(), "{bad}");
        }
        let text = made(&["deploy"], &["deploy=/usr/bin/systemctl restart app@1", "deploy=/bin/true"]).unwrap();
        assert!(text.contains("deploy ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart app@1, /bin/true'"), "{text}");
    }

    /// On a machine whose accounts, homes and rules are copies that go with the test. As root, as CI is.
    #[test]
    fn accounts_are_made_and_locked_their_homes_stay_and_others_are_not_touched() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes accounts in a namespace of its own: run it as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for (name, roles, sudo) in [
            ("first", &["cairn-a", "cairn-b", "daemon"][..], &["cairn-a"][..]),
            ("second", &["cairn-b"], &["cairn-b=/bin/true"]),
            ("third", &["cairn-b"], &[]),
            ("fourth", &["cairn-a", "cairn-b"], &[]),
            ("none", &["daemon"], &[]),
        ] {
            let text = made(roles, sudo).unwrap();
            // Rules that `visudo` does not take, whatever they come from.
            let text = if name == "second" { text.replace("NOPASSWD", "NOPASSWORD?") } else { text };
            std::fs::write(at(name), text).unwrap();
        }
        let steps = r#"
            set -eu
            cp -a /etc "$1/etc"; mount --bind "$1/etc" /etc
            mount -t tmpfs none /home; mkdir -p /var/lib/cairn; mount -t tmpfs none /var/lib/cairn
            before=$(getent passwd daemon)
            expires() { getent shadow "$1" | cut -d: -f8; }
            sh "$1/first"
            [ -d /home/cairn-a ]
            echo work >/home/cairn-a/file
            [ "$(getent shadow cairn-a | cut -d: -f2)" = '*' ]
            grep -q '^cairn-a ALL=(ALL:ALL) NOPASSWD: ALL$' /etc/sudoers.d/cairn
            [ "$(stat -c %a /etc/sudoers.d/cairn)" = 440 ]
            if sh "$1/second"; then exit 1; fi
            grep -q '^cairn-a ' /etc/sudoers.d/cairn
            sh "$1/third"
            [ "$(expires cairn-a)" = 1 ]
            [ -z "$(expires cairn-b)" ]
            [ "$(cat /home/cairn-a/file)" = work ]
            [ ! -e /etc/sudoers.d/cairn ]
            sh "$1/fourth"
            [ -z "$(expires cairn-a)" ]
            [ "$(getent passwd daemon)" = "$before" ]

            # Somebody deletes an account and makes one of that name: it is theirs, whatever the list says of the name.
            grep -qx "cairn-a $(id -u cairn-a)" /var/lib/cairn/accounts
            userdel cairn-a; useradd --uid 4321 --password '*' cairn-a
            theirs=$(getent passwd cairn-a; getent shadow cairn-a)
            sh "$1/third"
            [ "$(getent passwd cairn-a; getent shadow cairn-a)" = "$theirs" ]
            usermod --expiredate 2 cairn-a
            theirs=$(getent passwd cairn-a; getent shadow cairn-a)
            sh "$1/fourth" 2>"$1/said"
            grep -q 'cairn-a is another account' "$1/said"
            [ "$(getent passwd cairn-a; getent shadow cairn-a)" = "$theirs" ]
            # When it is gone it is made again, and is the script's again.
            userdel cairn-a
            sh "$1/fourth"
            [ "$(grep -c '^cairn-a ' /var/lib/cairn/accounts)" = 1 ]
            sh "$1/third"
            [ "$(expires cairn-a)" = 1 ]

            # A list from before the uid was in it: what was made here is known by its words, and nothing else is.
            sh "$1/fourth"
            printf 'cairn-a\ncairn-b\n' >/var/lib/cairn/accounts
            usermod --comment 'somebody else' cairn-a
            theirs=$(getent passwd cairn-a; getent shadow cairn-a)
            sh "$1/none"
            [ "$(getent passwd cairn-a; getent shadow cairn-a)" = "$theirs" ]
            [ "$(expires cairn-b)" = 1 ]
            echo all well
        "#;
        let ran = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", steps, "sh", dir.path().to_str().unwrap()])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("all well"), "{said}");
    }
}
