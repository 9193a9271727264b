//! The Debian package of the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;
use crate::workspace::Workspace;

/// Debian's word for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn put(root: &Path, at: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = root.join(at);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Lays the package out in `root`, and packs it beside; where it is.
fn package(workspace: &Workspace, program: &Path, version: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let (root, from) = (out.join("cairn-agent"), workspace.root.join("crates/agent/package"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let file = |name: &str| fs::read(from.join(name)).with_context(|| format!("cannot read `{name}`"));
    put(&root, "usr/bin/cairn-agent", &fs::read(program)?, 0o755)?;
    put(&root, "usr/lib/systemd/system/cairn-agent.service", &file("cairn-agent.service")?, 0o644)?;
    put(&root, "etc/cairn-agent/agent.toml", &file("agent.toml")?, 0o644)?;
    put(&root, "usr/share/doc/cairn-agent/copyright", &fs::read(workspace.root.join("LICENSE"))?, 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(&root, &format!("DEBIAN/{script}"), &file(script)?, 0o755)?;
    }
    put(&root, "DEBIAN/conffiles", b"/etc/cairn-agent/agent.toml\n", 0o644)?;
    let control = format!(
        "Package: cairn-agent\nVersion: {version}\nArchitecture: {}\nMaintainer: The Cairn project\nSection: admin\nPriority: optional\n\
         Depends: libc6, libgcc-s1, passwd\nRecommends: ca-certificates\n\
         Description: Cairn host agent\n Collects this host and reports what changed to a Cairn server.\n",
        architecture()
    );
    put(&root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    let deb = out.join(format!("cairn-agent_{version}_{}.deb", architecture()));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&root).arg(&deb);
    run::check(&mut build).context("`dpkg-deb` is in Debian's package `dpkg`")?;
    Ok(deb)
}

/// `cargo xtask deb [PROGRAM]`: packs a program that was built before, or builds it.
pub(crate) fn run(workspace: &Workspace, options: &[String]) -> anyhow::Result<()> {
    let program = match options {
        [] => {
            run::check(&mut run::cargo(workspace, &["build", "--release", "--locked", "-p", "agent"]))?;
            workspace.root.join("target/release/cairn-agent")
        }
        [program] => PathBuf::from(program),
        _ => bail!("use `cargo xtask deb [PROGRAM]`"),
    };
    let out = workspace.root.join("target/deb");
    let deb = package(workspace, &program, env!("CARGO_PKG_VERSION"), &out)?;
    println!("{}", deb.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str, args: &[&str], on: &Path) -> String {
        let output = Command::new(program).args(args).arg(on).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_package_holds_the_agent_its_unit_and_its_configuration_and_no_path_of_this_machine() {
        let workspace = Workspace::find().unwrap();
        let out = std::env::temp_dir().join(format!("cairn-deb-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let program = out.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let deb = package(&workspace, &program, "1.2.3", &out).unwrap();
        let info = said("dpkg-deb", &["--info"], &deb);
        assert!(info.contains("Version: 1.2.3") && info.contains("conffiles") && info.contains("postinst"), "{info}");
        let contents = said("dpkg-deb", &["--contents"], &deb);
        for (mode, path) in [
            ("-rwxr-xr-x root/root", "./usr/bin/cairn-agent"),
            ("-rw-r--r-- root/root", "./usr/lib/systemd/system/cairn-agent.service"),
            ("-rw-r--r-- root/root", "./etc/cairn-agent/agent.toml"),
        ] {
            assert!(contents.lines().any(|line| line.starts_with(mode) && line.ends_with(path)), "{path}: {contents}");
        }
        let root = out.join("root");
        let extract = Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&root).status().unwrap();
        assert!(extract.success() && root.join("usr/bin/cairn-agent").exists());
        let here = workspace.root.display().to_string();
        for name in ["cairn-agent/DEBIAN/postinst", "cairn-agent/DEBIAN/control", "root/etc/cairn-agent/agent.toml"] {
            assert!(!fs::read_to_string(out.join(name)).unwrap().contains(&here), "{name}");
        }
        fs::remove_dir_all(&out).unwrap();
    }

    /// What an administrator does with two versions, on a copy of this machine's root that is gone afterwards. Each step says what is there.
    const LIFE: &str = r##"
set -eu
mount -t tmpfs -o mode=0755 cairn-test "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" cairn-test "$1/root"
# Whatever runs here is not told: this root has no systemd at work.
mount -t tmpfs cairn-test "$1/root/run"
cp "$2" "$1/root/run/one.deb"
cp "$3" "$1/root/run/two.deb"
exec chroot "$1/root" /bin/sh -eu -c '
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
state=/var/lib/cairn-agent
show() {
    for path in /usr/bin/cairn-agent /usr/lib/systemd/system/cairn-agent.service /etc/cairn-agent/agent.toml $state $state/identity/key.pk8; do
        if [ -e "$path" ]; then echo "$1 $path $(stat -c "%U:%G %a" "$path")"; else echo "$1 $path gone"; fi
    done
}
dpkg --purge cairn-agent >/dev/null 2>&1 || true
dpkg --install /run/one.deb </dev/null >&2
show installed
getent passwd cairn-agent | cut -d: -f6,7
echo "# mine" >> /etc/cairn-agent/agent.toml
install -d -m 0700 -o cairn-agent -g cairn-agent $state/identity
install -m 0600 -o cairn-agent -g cairn-agent /dev/null $state/identity/key.pk8
dpkg --install /run/two.deb </dev/null >&2
show upgraded
echo "version $(dpkg-query -W -f "\${Version}" cairn-agent); mine: $(grep -c "^# mine" /etc/cairn-agent/agent.toml)"
dpkg --remove cairn-agent </dev/null >&2
show removed
dpkg --purge cairn-agent </dev/null >&2
show purged
ls -d /etc/cairn-agent 2>/dev/null || echo "no folder is left"
'
"##;

    #[test]
    fn dpkg_installs_upgrades_removes_and_purges_it_and_leaves_no_key_behind() {
        let workspace = Workspace::find().unwrap();
        let out = tempfile::tempdir().unwrap();
        let program = out.path().join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let [one, two] = ["1.2.3", "1.2.4"].map(|version| package(&workspace, &program, version, out.path()).unwrap());
        let place = out.path().join("place");
        fs::create_dir(&place).unwrap();
        let mut life = Command::new("unshare");
        life.args(["--mount", "--propagation", "private", "sh", "-c", LIFE, "sh"]).arg(&place).arg(one).arg(two);
        let output = life.output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "this test mounts a copy of the root: run it as root ({why})");
        let said = String::from_utf8(output.stdout).unwrap();
        let (program, unit) = ("/usr/bin/cairn-agent", "/usr/lib/systemd/system/cairn-agent.service");
        let (settings, state) = ("/etc/cairn-agent/agent.toml", "/var/lib/cairn-agent");
        let key = "/var/lib/cairn-agent/identity/key.pk8";
        let (owner, gone) = ("cairn-agent:cairn-agent", "gone");
        let mut expected = Vec::new();
        for (when, is_there, has_settings, has_state, has_key) in [
            ("installed", true, true, true, false),
            ("upgraded", true, true, true, true),
            ("removed", false, true, true, true),
            ("purged", false, false, false, false),
        ] {
            let mut line = |path, found: bool, how: &str| {
                expected.push(format!("{when} {path} {}", if found { how } else { gone }));
            };
            line(program, is_there, "root:root 755");
            line(unit, is_there, "root:root 644");
            line(settings, has_settings, "root:root 644");
            line(state, has_state, &format!("{owner} 700"));
            line(key, has_key, &format!("{owner} 600"));
        }
        expected.insert(5, "/var/lib/cairn-agent:/usr/sbin/nologin".to_owned());
        expected.insert(11, "version 1.2.4; mine: 1".to_owned());
        expected.push("no folder is left".to_owned());
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{why}");
    }

    #[test]
    fn the_unit_grants_one_capability_and_no_more() {
        let workspace = Workspace::find().unwrap();
        let unit = fs::read_to_string(workspace.root.join("crates/agent/package/cairn-agent.service")).unwrap();
        for line in [
            "User=cairn-agent",
            "AmbientCapabilities=CAP_DAC_READ_SEARCH",
            "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
        ] {
            assert!(unit.lines().any(|it| it == line), "{line}");
        }
    }

    #[test]
    fn systemd_finds_the_unit_hardened_and_has_nothing_to_say_against_it() {
        let workspace = Workspace::find().unwrap();
        let unit = workspace.root.join("crates/agent/package/cairn-agent.service");
        let asked = |words: &[&str]| {
            let output = Command::new("systemd-analyze").args(words).arg(&unit).output();
            output.expect("install `systemd` for its `systemd-analyze`: `cargo xtask setup`")
        };
        // Of 100, where 0 is best and what has no hardening has 96.
        let judged = asked(&["security", "--offline=true", "--no-pager", "--threshold=22"]);
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
        // The program is not installed here; nothing else is said about the unit.
        let verified = asked(&["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let about = said.lines().filter(|line| line.contains("cairn-agent.service"));
        let about: Vec<&str> = about.filter(|line| !line.contains("/usr/bin/cairn-agent is not executable")).collect();
        assert!(about.is_empty(), "{about:?}");
    }
}
