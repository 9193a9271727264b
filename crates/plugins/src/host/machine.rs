//! The machine itself: operating system, kernel, hardware, boot, sysctl. What its configuration hardens is in `hardening`.

use std::collections::{BTreeMap, BTreeSet};

use domain::Result;
use serde_json::{Map, Value, json};

use super::scope::{Scope, Source};
use super::{accounts, hardening, sshd, sudoers, text};

/// Running values that are read always; those that sysctl.d sets are read too.
const SYSCTL: &[&str] = &[
    "dev.tty.ldisc_autoload",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
    "kernel.core_pattern",
    "kernel.core_uses_pid",
    "kernel.dmesg_restrict",
    "kernel.kexec_load_disabled",
    "kernel.kptr_restrict",
    "kernel.modules_disabled",
    "kernel.panic_on_oops",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "kernel.sysrq",
    "kernel.unprivileged_bpf_disabled",
    "kernel.unprivileged_userns_clone",
    "kernel.yama.ptrace_scope",
    "kernel.io_uring_disabled",
    "net.core.bpf_jit_harden",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.accept_source_route",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.all.log_martians",
    "net.ipv4.conf.all.mc_forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.secure_redirects",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.conf.all.shared_media",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.proxy_arp",
    "net.ipv4.conf.default.accept_redirects",
    "net.ipv4.conf.default.accept_source_route",
    "net.ipv4.conf.default.log_martians",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.default.secure_redirects",
    "net.ipv4.conf.default.send_redirects",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.icmp_echo_ignore_broadcasts",
    "net.ipv4.icmp_ignore_bogus_error_responses",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv6.conf.all.accept_ra",
    "net.ipv6.conf.all.accept_redirects",
    "net.ipv6.conf.all.accept_source_route",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.accept_ra",
    "net.ipv6.conf.default.accept_redirects",
    "net.ipv6.conf.default.accept_source_route",
    "net.ipv6.conf.default.disable_ipv6",
    "user.max_user_namespaces",
    "vm.mmap_min_addr",
    "vm.mmap_rnd_bits",
    "vm.mmap_rnd_compat_bits",
    "vm.overcommit_memory",
    "vm.swappiness",
    "vm.unprivileged_userfaultfd",
    "crypto.fips_enabled",
];
const SYSCTL_CONFIGURED: usize = 500;
/// Memory is shown in steps: balloons and firmware make the exact number move.
const MEMORY_STEP: u64 = 16 * 1_024 * 1_024;

/// One part of the machine's properties and how well it was read.
pub(super) struct Sections {
    properties: Map<String, Value>,
    states: Map<String, Value>,
}

impl Sections {
    fn add(&mut self, source: &Source<'_>, mark: usize, name: &str, value: Value) {
        let state = match (source.section_since(mark), value.get("installed")) {
            ("complete", Some(Value::Bool(false))) => "absent",
            (state, _) => state,
        };
        self.states.insert(name.to_owned(), state.into());
        self.properties.insert(name.to_owned(), value);
    }
}

/// The machine's one node.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let source = &mut scope.source;
    source.learn_names().await;
    let mut all = Sections { properties: Map::new(), states: Map::new() };
    macro_rules! section {
        ($name:literal, $read:expr) => {{
            let mark = source.mark();
            let value = $read.await;
            all.add(source, mark, $name, value);
        }};
    }
    section!("os", os(source));
    section!("kernel", kernel(source));
    section!("hardware", hardware(source));
    section!("boot", boot(source));
    let mark = source.mark();
    let configured = sysctl_configured(source).await;
    let running = sysctl(source, &configured).await;
    all.add(source, mark, "sysctl", running);
    let configured: Map<String, Value> =
        configured.into_iter().map(|(key, value)| (text::snake(&key), value.into())).collect();
    all.properties.insert("sysctl_configured".into(), configured.into());
    section!("sshd", sshd::collect(source));
    section!("sudo", sudoers::summary(source));
    section!("access", accounts::summary(source));
    section!("login_defs", hardening::login_defs(source));
    section!("pam", hardening::pam(source));
    section!("modules", hardening::modules(source));
    section!("cron", hardening::cron(source));
    section!("limits", hardening::limits(source));
    section!("audit", hardening::audit(source));
    section!("time_sync", hardening::time_sync(source));
    section!("integrity_tool", hardening::integrity_tool(source));
    section!("lsm", hardening::lsm(source));
    section!("banners", hardening::banners(source));
    section!("logging", hardening::logging(source));
    section!("files", hardening::files(source));
    section!("package_manager", hardening::package_manager(source));
    let network = source.list("/sys/class/net").await;
    let mut wireless = Vec::new();
    for entry in network.iter().take(1_000) {
        if source.reach.list(&format!("/sys/class/net/{}/wireless", entry.name), None).await.is_ok() {
            wireless.push(entry.name.clone());
        }
    }
    let ipv6 = source.value("/proc/net/if_inet6", false).await.is_some_and(|text| !text.is_empty())
        && source.value("/proc/sys/net/ipv6/conf/all/disable_ipv6", false).await.as_deref() != Some("1");
    let hostname = match source.value("/proc/sys/kernel/hostname", true).await {
        Some(name) if !name.is_empty() => name,
        _ => source.value("/etc/hostname", true).await.unwrap_or_default(),
    };
    all.properties.insert("hostname".into(), hostname.clone().into());
    all.properties.insert("ipv6".into(), json!({ "enabled": ipv6 }));
    all.properties.insert("wireless".into(), json!({ "interfaces": wireless }));
    all.properties.insert("sections".into(), all.states.into());
    let name = if hostname.is_empty() { scope.host.machine.clone() } else { hostname };
    scope.machine(&name, all.properties.into()).await?;
    Ok(None)
}

async fn os(source: &mut Source<'_>) -> Value {
    let mut release = source.config("/etc/os-release").await;
    if release.is_none() {
        release = source.config("/usr/lib/os-release").await;
    }
    let Some(release) = release else {
        source.problem("there is no os-release");
        return json!({});
    };
    let values = text::assignments(&release);
    let like: Vec<&str> = values.get("ID_LIKE").map(|like| like.split_whitespace().collect()).unwrap_or_default();
    let get = |key: &str| values.get(key);
    json!({
        "id": get("ID"), "version": get("VERSION_ID"), "version_codename": get("VERSION_CODENAME"), "pretty_name": get("PRETTY_NAME"),
        "name": get("NAME"), "variant": get("VARIANT_ID"), "like": like,
    })
}

async fn kernel(source: &mut Source<'_>) -> Value {
    let release = source.value("/proc/sys/kernel/osrelease", true).await;
    if release.is_none() {
        source.problem("/proc/sys/kernel/osrelease: cannot be read");
    }
    let cmdline = source.value("/proc/cmdline", false).await;
    let cmdline = cmdline.map(|line| line.split_whitespace().map(text::without_secret).collect::<Vec<_>>());
    let lockdown = source.value("/sys/kernel/security/lockdown", true).await;
    let lockdown =
        lockdown.and_then(|modes| modes.split('[').nth(1).and_then(|rest| rest.split(']').next()).map(str::to_owned));
    let mut vulnerabilities = BTreeMap::new();
    for entry in source.list("/sys/devices/system/cpu/vulnerabilities").await.into_iter().take(200) {
        if let Some(state) =
            source.value(&format!("/sys/devices/system/cpu/vulnerabilities/{}", entry.name), true).await
        {
            vulnerabilities.insert(text::snake(&entry.name), state);
        }
    }
    let vulnerable: Vec<&String> =
        vulnerabilities.iter().filter(|(_, state)| state.starts_with("Vulnerable")).map(|(name, _)| name).collect();
    json!({
        "release": release, "version": source.value("/proc/sys/kernel/version", true).await, "arch": source.value("/proc/sys/kernel/arch", true).await,
        "cmdline": cmdline, "lockdown": lockdown, "vulnerable": vulnerable,
        "taint": source.value("/proc/sys/kernel/tainted", true).await.and_then(|taint| taint.parse::<i64>().ok()),
        "modules_disabled": source.value("/proc/sys/kernel/modules_disabled", true).await.map(|value| value == "1"),
        "vulnerabilities": vulnerabilities,
    })
}

/// `key : value` of /proc/cpuinfo's first processor, and how many there are.
fn processors(cpuinfo: &str) -> (BTreeMap<&str, &str>, usize) {
    let (mut first, mut cores) = (BTreeMap::new(), 0);
    for (key, value) in cpuinfo.lines().filter_map(|line| line.split_once(':')) {
        let (key, value) = (key.trim(), value.trim());
        cores += usize::from(key == "processor");
        first.entry(key).or_insert(value);
    }
    (first, cores)
}

async fn hardware(source: &mut Source<'_>) -> Value {
    let cpuinfo = source.peek("/proc/cpuinfo", 8 * 1_024 * 1_024).await.unwrap_or_default();
    let (cpu, cores) = processors(&cpuinfo);
    let meminfo = source.peek("/proc/meminfo", 64 * 1_024).await.unwrap_or_default();
    let memory = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let memory = memory.map(|kib| {
        (kib.saturating_mul(1_024).saturating_add(MEMORY_STEP / 2) / MEMORY_STEP).saturating_mul(MEMORY_STEP)
    });
    let mut dmi = BTreeMap::new();
    for name in ["sys_vendor", "product_name", "bios_vendor", "bios_version", "bios_date", "chassis_type"] {
        if let Some(value) = source.value(&format!("/sys/class/dmi/id/{name}"), true).await {
            dmi.insert(name, value);
        }
    }
    let hypervisor = cpu.get("flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let container = match source.value("/run/systemd/container", true).await {
        Some(name) if !name.is_empty() => Some(name),
        _ if source.exists("/.dockerenv").await => Some("docker".to_owned()),
        _ if source.exists("/run/.containerenv").await => Some("podman".to_owned()),
        _ => None,
    };
    let xen = source.value("/sys/hypervisor/type", true).await;
    let virtualization = container.or(xen).unwrap_or_else(|| virtualization(&dmi, hypervisor).to_owned());
    json!({
        "cpu_model": cpu.get("model name").or(cpu.get("Model")), "cpu_vendor": cpu.get("vendor_id"), "cores": cores, "memory_bytes": memory,
        "vendor": dmi.get("sys_vendor"), "product": dmi.get("product_name"), "bios_vendor": dmi.get("bios_vendor"), "bios_version": dmi.get("bios_version"),
        "bios_date": dmi.get("bios_date"), "chassis_type": dmi.get("chassis_type").map(|kind| text::scalar(kind)), "virtualization": virtualization,
    })
}

fn virtualization(dmi: &BTreeMap<&str, String>, hypervisor: bool) -> &'static str {
    let names = dmi.values().map(String::as_str).collect::<Vec<_>>().join(" ");
    let known = [
        ("VMware", "vmware"),
        ("VirtualBox", "oracle"),
        ("Amazon EC2", "amazon"),
        ("Google", "google"),
        ("Microsoft", "microsoft"),
        ("Xen", "xen"),
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("Parallels", "parallels"),
    ];
    match known.iter().find(|(mark, _)| names.contains(mark)) {
        Some((_, name)) if hypervisor => name,
        _ if hypervisor => "unknown",
        _ => "none",
    }
}

async fn boot(source: &mut Source<'_>) -> Value {
    let uefi = source.exists("/sys/firmware/efi").await;
    let variable =
        source.bytes("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", 64, true).await;
    // Four bytes of attributes come before the value (UEFI 2.10, 3.3).
    let secure_boot = variable.and_then(|reply| reply.body.get(4).map(|byte| *byte == 1));
    let mut config = json!({ "exists": false });
    let (mut password, mut unrestricted) = (false, false);
    for path in ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub2/user.cfg", "/boot/grub/user.cfg"] {
        let file = source.file(path).await;
        if file.get("exists") != Some(&Value::Bool(true)) {
            continue;
        }
        if config.get("exists") != Some(&Value::Bool(true)) {
            config = file;
        }
        if let Some(text) = source.peek(path, 4 * 1_024 * 1_024).await {
            password |= text.contains("password_pbkdf2") || text.contains("GRUB2_PASSWORD=");
            unrestricted |= text.contains("--unrestricted");
        }
    }
    let grub = config.get("exists") == Some(&Value::Bool(true));
    let bootloader = match () {
        () if grub => "grub2",
        () if source.any_exists(&["/boot/loader/loader.conf", "/efi/loader/loader.conf"]).await => "systemd-boot",
        () => "none",
    };
    let default = source.reach.read_link("/etc/systemd/system/default.target").await.ok();
    let default = match default {
        Some(target) => Some(target),
        None => source.reach.read_link("/lib/systemd/system/default.target").await.ok(),
    };
    json!({
        "uefi": uefi, "secure_boot": secure_boot, "bootloader": bootloader, "grub_config": config, "grub_password": password,
        "grub_unrestricted": unrestricted, "default_target": default.map(|target| text::base(&target).to_owned()),
    })
}

/// A key of sysctl.d in dotted form: where a `/` comes before any `.`, the two change places.
fn dotted(key: &str) -> String {
    let key = key.trim().trim_start_matches('-');
    match key.find(['.', '/']).and_then(|at| key.as_bytes().get(at)) {
        Some(b'/') => key
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// What the files of sysctl.d say: of files with one name the first directory wins, of values of one key the last file.
async fn sysctl_configured(source: &mut Source<'_>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for dir in ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"] {
        for path in source.glob(&format!("{dir}/*.conf")).await {
            files.entry(text::base(&path).to_owned()).or_insert(path);
        }
    }
    let mut out = BTreeMap::new();
    for path in files.into_values().chain(["/etc/sysctl.conf".to_owned()]) {
        for (key, value) in text::assignments(&source.config(&path).await.unwrap_or_default()) {
            if out.len() < SYSCTL_CONFIGURED && !key.starts_with(';') {
                out.insert(dotted(&key), value);
            }
        }
    }
    out
}

async fn sysctl(source: &mut Source<'_>, configured: &BTreeMap<String, String>) -> Value {
    let plain =
        |key: &&str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b)) && !key.contains("..");
    let keys: BTreeSet<&str> =
        SYSCTL.iter().copied().chain(configured.keys().map(String::as_str).filter(plain)).collect();
    let mut out = Map::new();
    for key in keys {
        let path: String = key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect();
        if let Some(value) = source.value(&format!("/proc/sys/{path}"), true).await.filter(|value| value.len() <= 200) {
            out.insert(text::snake(key), text::scalar(&value));
        }
    }
    if out.is_empty() {
        source.problem("/proc/sys: nothing can be read");
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sysctl_keys_have_one_spelling() {
        for (key, expect) in [
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
            ("-net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
            ("", ""),
        ] {
            assert_eq!(dotted(key), expect);
        }
    }

    #[test]
    fn processors_are_counted() {
        let (first, cores) = processors("processor\t: 0\nmodel name\t: A\n\nprocessor\t: 1\nmodel name\t: B\n");
        assert_eq!((first["model name"], cores), ("A", 2));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,200}") {
            let _ = (dotted(&text), processors(&text));
        }
    }
}
