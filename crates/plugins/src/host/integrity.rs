//! SHA-256, mode and owner of a configured set of files.

use domain::Result;
use serde_json::json;
use transport::FileKind;

use super::accounts::merged;
use super::scope::Scope;
use super::text;

/// The files that are watched when the job names none.
pub(super) const DEFAULT: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/ssh/sshd_config",
    "/etc/pam.d/common-auth",
    "/etc/pam.d/system-auth",
    "/etc/pam.d/su",
    "/etc/login.defs",
    "/etc/crontab",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/fstab",
    "/etc/profile",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/rc.local",
    "/bin/su",
    "/bin/bash",
    "/bin/sh",
    "/bin/login",
    "/bin/mount",
    "/bin/ps",
    "/bin/ls",
    "/usr/bin/sudo",
    "/usr/bin/passwd",
    "/usr/bin/ssh",
    "/usr/bin/newgrp",
    "/usr/bin/chsh",
    "/usr/bin/gpasswd",
    "/usr/bin/pkexec",
    "/usr/sbin/sshd",
    "/usr/sbin/cron",
    "/sbin/init",
];

/// One node per path, also for those that are not there.
pub(super) async fn collect(scope: &mut Scope<'_>, paths: &[String]) -> Result<Option<String>> {
    scope.source.learn_names().await;
    for path in paths {
        let before = scope.source.mark();
        let Some(own) = scope.source.stat(path).await else {
            // Refused is not the same as not there.
            if scope.source.mark() == before {
                scope.node("host.file", path, path, json!({ "path": path, "exists": false })).await?;
            }
            continue;
        };
        let link_target = if own.kind == FileKind::Link { scope.source.reach.read_link(path).await.ok() } else { None };
        let Some(stat) = (if own.kind == FileKind::Link { scope.source.stat_followed(path).await } else { Some(own) })
        else {
            scope
                .node("host.file", path, path, json!({ "path": path, "exists": false, "link_target": link_target }))
                .await?;
            continue;
        };
        let tag = scope.source.tag(true);
        // A hash of /etc/shadow would let its holder test guesses of the passwords in it.
        let secret = ["shadow", "gshadow", "shadow-", "gshadow-", "opasswd"].contains(&text::base(path));
        let sha256 = match stat.kind {
            FileKind::File if !secret => match scope.source.reach.hash(path, &tag).await {
                Ok(digest) => Some(digest.to_hex()),
                Err(error) => {
                    scope.source.failed(path, &error);
                    None
                }
            },
            _ => None,
        };
        let bit = |mask: u32| stat.mode & mask != 0;
        let file = scope.source.file_of(path, &stat);
        let size = (!secret).then_some(stat.size);
        let more = json!({ "sha256": sha256, "size": size, "link_target": link_target, "setuid": bit(0o4000), "setgid": bit(0o2000), "sticky": bit(0o1000) });
        scope.node("host.file", path, path, merged(file, more)).await?;
    }
    Ok(None)
}
