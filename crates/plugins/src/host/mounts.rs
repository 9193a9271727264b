//! proc_pid_mountinfo(5) beside fstab(5), and the room on local file systems.

use std::collections::BTreeMap;

use domain::Result;
use serde_json::json;

use super::scope::Scope;
use super::text;

const MOUNTS: usize = 20_000;
const NETWORK: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "ncpfs", "lustre", "virtiofs", "davfs"];
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "squashfs",
    "overlay",
];

/// One mounted file system.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: String,
    device: String,
    kind: String,
    options: Vec<String>,
}

/// `\040` and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code =
            after.get(..3).filter(|code| *first == b'\\' && code.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        if let Some(code) = code {
            let value = code.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            bytes.push(u8::try_from(value).unwrap_or(b'?'));
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    text::lossy(&bytes)
}

fn parse(line: &str) -> Option<Mount> {
    let (mine, theirs) = line.split_once(" - ")?;
    let mine: Vec<&str> = mine.split(' ').collect();
    let mut theirs = theirs.split(' ');
    let (kind, device, system) = (theirs.next()?, theirs.next()?, theirs.next().unwrap_or_default());
    let mut options: Vec<String> =
        mine.get(5)?.split(',').chain(system.split(',')).filter(|o| !o.is_empty()).map(text::without_secret).collect();
    options.sort();
    options.dedup();
    Some(Mount {
        point: unescape(mine.get(4)?),
        device: text::without_secret(&unescape(device)),
        kind: kind.to_owned(),
        options,
    })
}

/// Options of fstab by mount point.
fn fstab(text: &str) -> BTreeMap<String, Vec<String>> {
    let rows = text::lines(text).map(|(_, line)| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
        let (point, options) = (row.get(1)?, row.get(3)?);
        Some((unescape(point), options.split(',').map(text::without_secret).collect()))
    })
    .collect()
}

const HOSTS: &str = "/proc/1/mountinfo";
const OWN: &str = "/proc/self/mountinfo";

/// One node per mount point; what is mounted last on it counts.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    // The host's, as its first process has it: whoever reads may be in a namespace of its own, where a unit made all read-only or /tmp private.
    let (mut path, mut info) = (HOSTS, scope.source.config(HOSTS).await);
    if info.is_none() {
        (path, info) = (OWN, scope.source.config(OWN).await);
    }
    let Some(info) = info else { return Ok(Some(format!("there is no {HOSTS}"))) };
    let fstab = fstab(&scope.source.config("/etc/fstab").await.unwrap_or_default());
    let mut mounts = BTreeMap::new();
    for (number, line) in text::lines(&info).take(MOUNTS) {
        match parse(line) {
            Some(mount) => _ = mounts.insert(mount.point.clone(), mount),
            None => scope.source.problem(format!("{path}:{number}: not a mount")),
        }
    }
    for mount in mounts.into_values() {
        let has = |name: &str| mount.options.iter().any(|option| option == name);
        let fuse = mount.kind.starts_with("fuse.");
        let network = NETWORK.contains(&mount.kind.as_str()) || mount.kind == "fuse.sshfs";
        let pseudo = PSEUDO.contains(&mount.kind.as_str());
        // Asking a network file system for its room may hang on a server that is gone.
        let usage = if network || pseudo || fuse { None } else { scope.source.reach.usage(&mount.point).await.ok() };
        let full = usage.map(|usage| usage.available < usage.total / 10);
        let properties = json!({
            "mount_point": mount.point, "device": mount.device, "fs_type": mount.kind, "options": mount.options, "nodev": has("nodev"),
            "nosuid": has("nosuid"), "noexec": has("noexec"), "read_only": has("ro"), "in_fstab": fstab.contains_key(&mount.point),
            "fstab_options": fstab.get(&mount.point), "is_network": network, "is_pseudo": pseudo, "total_bytes": usage.map(|usage| usage.total),
            "used_percent_over_90": full,
        });
        scope.node("host.mount", &mount.point, &mount.point, properties).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mountinfo_lines_are_read_with_their_escapes() {
        let line = r"36 35 98:0 /mnt1 /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.point.as_str(), mount.kind.as_str()), ("/mnt/a b", "ext3"));
        assert_eq!(mount.options, ["errors=continue", "noatime", "rw"]);
        assert_eq!(parse("36 35 98:0 / /mnt rw"), None);
        assert_eq!(fstab("/dev/a /tmp ext4 nodev,nosuid 0 0\nshort\n")["/tmp"], ["nodev", "nosuid"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,200}") {
            let _ = (parse(&text), fstab(&text), unescape(&text));
        }
    }
}
