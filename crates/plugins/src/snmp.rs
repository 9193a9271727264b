//! Network devices over SNMP: what they are, their interfaces, addresses, neighbours, VLANs, parts and programs. The schema is
//! `docs/schema/snmp.md`.
//!
//! **Not for** messages, credentials or limits (`transport`), and not for changing anything at a device.
//!
//! Invariants:
//! - a device is the same node whatever address it answers at, and two devices that claim to be one are read as none (`snmp/identity.rs`);
//! - a table closes what it no longer shows only when its walk came to its end and every row was understood;
//! - a target that does not answer is the coverage of that target, and closes nothing;
//! - counters, uptimes and times of change are no property: a second run of a quiet device shows the same;
//! - everything that a device sends is attacker's text: it is cut and cleaned before it is a name or an id.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use domain::{Coverage, Error, Result};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use transport::{CallError, CallTag, Reach, SnmpReach};

use crate::targets::{self, Target};
use crate::{Checks, JobConfig, Manifest, Plugin, Setting, SettingKind, Sink, TaskSpec, setting};

mod addresses;
mod bridge;
mod components;
mod device;
mod identity;
mod interfaces;
mod neighbors;
mod routes;
mod system;

use device::{Device, Event, Out};
use interfaces::Interfaces;
use system::System;

/// Targets of one task. Large: two devices that claim to be one are noticed within a task.
const BATCH: usize = 1_024;
/// Most addresses of a name that are asked.
const ADDRESSES: usize = 4;
/// Events that wait for the sink.
const WAITING: usize = 4;

/// What is read besides the device itself, in this order.
const COLLECTORS: &[&str] =
    &["interfaces", "addresses", "arp", "routes", "neighbors", "vlans", "forwarding", "components", "software"];

const SETTINGS: &[Setting] = &[
    Setting::required(
        "targets",
        SettingKind::List,
        "devices to read, separated by commas: names, addresses or networks (`10.0.0.0/24`), each with `:PORT` where it is not 161; at most 4,096",
        "switch1.example,10.0.0.0/24,[2001:db8::7]:1161",
    ),
    Setting::optional(
        "site",
        SettingKind::Text,
        "where the devices stand: the region of their node ids, 1 to 64 printable characters without `:`; default `local`",
        "fra1",
    ),
    Setting::optional(
        "collectors",
        SettingKind::SomeOf(COLLECTORS),
        "which of interfaces, addresses, arp, routes, neighbors, vlans, forwarding, components, software to read besides the device itself; default all",
        "interfaces,neighbors,vlans",
    ),
    Setting::optional(
        "concurrency",
        SettingKind::Number { least: 1, most: 256 },
        "devices at a time, 1 to 256 (default 64)",
        "16",
    ),
    Setting::optional(
        "wait_s",
        SettingKind::Number { least: 1, most: 60 },
        "longest wait for one answer, in seconds, 1 to 60 (default 2); an unanswered request is sent three times",
        "5",
    ),
    Setting::optional(
        "target_timeout_s",
        SettingKind::Number { least: 1, most: 3_600 },
        "longest time for one device, in seconds, 1 to 3,600 (default 600)",
        "120",
    ),
    Setting::optional(
        "target_mib",
        SettingKind::Number { least: 1, most: 256 },
        "most that one device may send, in MiB, 1 to 256 (default 32)",
        "8",
    ),
];

/// The `snmp` plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct SnmpPlugin;

/// A job's settings, checked.
struct Settings {
    targets: Vec<Target>,
    site: String,
    collectors: Vec<String>,
    concurrency: usize,
}

fn settings(config: &JobConfig) -> Result<Settings> {
    setting::check("snmp", SETTINGS, config)?;
    Ok(Settings {
        targets: targets::read(config.get("targets"), transport::snmp::PORT)?,
        site: setting::site(config)?,
        collectors: setting::some_of(config, "collectors", COLLECTORS)?,
        concurrency: usize::try_from(setting::number(config, "concurrency", 64)).unwrap_or(1),
    })
}

fn snmp(reach: &dyn Reach) -> Result<&dyn SnmpReach> {
    reach
        .snmp()
        .ok_or_else(|| Error::invalid("credential", "`snmp` needs a credential of type snmp-v3 or snmp-community"))
}

/// How a target that was not read is told.
fn coverage(error: &CallError) -> Coverage {
    let reason = error.to_string();
    match error {
        CallError::Denied(_) => Coverage::Denied { reason },
        _ => Coverage::Failed { reason },
    }
}

/// A target that answered.
struct Found {
    target: Target,
    address: SocketAddr,
    system: System,
}

async fn found(snmp: &dyn SnmpReach, target: &Target) -> Result<std::result::Result<Found, CallError>> {
    let tag = CallTag { scope: target.scope("snmp-target")?, about: None, keep: false };
    let addresses = match snmp.resolve(&target.host, target.port).await {
        Ok(addresses) => addresses,
        Err(error) => return Ok(Err(error)),
    };
    let mut last = CallError::Unreachable("the name has no address".to_owned());
    for address in addresses.into_iter().take(ADDRESSES) {
        let read = System::read(snmp, address, &tag).await;
        snmp.forget(address);
        match read {
            Ok(system) => return Ok(Ok(Found { target: target.clone(), address, system })),
            Err(error) => last = error,
        }
    }
    Ok(Err(last))
}

/// Devices by what they are known by, each with the targets at which it answered.
type Groups = BTreeMap<String, Vec<Found>>;

/// Reads one device, known by one or more targets.
async fn device(
    snmp: &dyn SnmpReach,
    settings: &Settings,
    reach: &dyn Reach,
    id: String,
    group: Vec<Found>,
    mut out: Out,
) -> Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    // Copies of a machine that kept its id would close each other's interfaces.
    let other = group.iter().find(|found| !found.system.is_same_as(&first.system));
    let verdict = if let Some(other) = other {
        Coverage::Failed {
            reason: format!(
                "`{}` and `{}` are two devices with one identity, `{id}`: give each an engine id of its own",
                first.target, other.target
            ),
        }
    } else {
        let (address, site, out) = (first.address, settings.site.as_str(), out.clone());
        let device = Device { snmp, address, site, id, out, silent: AtomicBool::new(false) };
        let read = everything(&device, settings, reach, &first.system).await?;
        read.map_or_else(|error| coverage(&error), |()| Coverage::Complete)
    };
    for found in &group {
        out.send(Event::Done(found.target.scope("snmp-target")?, verdict.clone())).await?;
        out.send(Event::Target(found.target.to_string())).await?;
    }
    Ok(())
}

/// The device and all its tables, one after the other. An error is why the rest was not asked.
async fn everything(
    device: &Device<'_>,
    settings: &Settings,
    reach: &dyn Reach,
    system: &System,
) -> Result<std::result::Result<(), CallError>> {
    if let Err(error) = system.show(device).await? {
        return Ok(Err(error));
    }
    let wanted = |name: &str| settings.collectors.iter().any(|collector| collector == name);
    let interfaces = Interfaces::read(device, wanted("interfaces")).await;
    device.snmp.forget(device.address);
    let interfaces = interfaces?;
    for collector in settings.collectors.iter().map(String::as_str).filter(|name| *name != "interfaces") {
        if reach.is_cancelled() {
            return Err(Error::conflict("the job was cancelled"));
        }
        // A device that fell silent would cost every table its waiting.
        if let Err(error) = device.is_there().await {
            return Ok(Err(error));
        }
        let collected = match collector {
            "addresses" => addresses::addresses(device, &interfaces).await,
            "arp" => addresses::arp(device, &interfaces).await,
            "routes" => routes::collect(device, &interfaces).await,
            "neighbors" => neighbors::collect(device, &interfaces).await,
            "vlans" => bridge::vlans(device, &interfaces).await,
            "forwarding" => bridge::forwarding(device, &interfaces).await,
            "components" => components::components(device).await,
            _ => components::software(device).await,
        };
        // A table's rows are with the sink by now.
        device.snmp.forget(device.address);
        collected?;
    }
    Ok(Ok(()))
}

#[async_trait]
impl Plugin for SnmpPlugin {
    fn manifest(&self) -> Manifest {
        let types = [
            "chassis",
            "chassis_id",
            "interface",
            "address",
            "arp_entry",
            "route",
            "neighbor",
            "vlan",
            "forwarding_entry",
            "component",
            "package",
        ];
        Manifest {
            name: "snmp",
            about: "network devices over SNMP v3, v2c and v1: interfaces, addresses, routes, neighbours, VLANs, parts, programs",
            version: env!("CARGO_PKG_VERSION"),
            credential_types: &["snmp-v3", "snmp-community"],
            settings: SETTINGS,
            node_types: types.iter().map(|name| format!("snmp.{name}")).collect(),
        }
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        settings(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, reach: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let read = settings(config)?;
        snmp(reach)?;
        Ok(targets::tasks(&read.targets, BATCH, config))
    }

    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        let (read, snmp) = (settings(config)?, snmp(reach)?);
        let one = |target| {
            async move {
                let found = found(snmp, target).await?;
                checks.call(&target.to_string(), &found, Some("it says what it is"));
                Ok(())
            }
            .boxed()
        };
        targets::each(&read.targets, read.concurrency, checks, one).await
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let read = settings(&targets::settings_of(task))?;
        let (snmp, total) = (snmp(reach)?, read.targets.len() as u64);
        let (out, mut events) = Out::channel(WAITING);
        let work = work(snmp, &read, reach, out);
        let sunk = async {
            let mut done = 0;
            while let Some(event) = events.next().await {
                match event {
                    Event::Page(page) => sink.page(page).await?,
                    Event::Done(scope, coverage) => sink.scope_done(scope, coverage).await?,
                    Event::Target(target) => {
                        done += 1;
                        sink.progress(done, total, &target);
                    }
                }
            }
            sink.progress(total, total, "done");
            Ok(())
        };
        futures::try_join!(work, sunk).map(drop)
    }
}

/// First asks every target who it is, then reads each device once.
async fn work(snmp: &dyn SnmpReach, read: &Settings, reach: &dyn Reach, mut out: Out) -> Result<()> {
    let mut asking = Vec::new();
    for target in &read.targets {
        let one = async move {
            if reach.is_cancelled() {
                return Err(Error::conflict("the job was cancelled"));
            }
            Ok((target, found(snmp, target).await?))
        };
        asking.push(one.boxed());
    }
    let mut asking = stream::iter(asking).buffer_unordered(read.concurrency);
    let mut groups = Groups::new();
    while let Some(answer) = asking.next().await {
        let (target, found) = answer?;
        match found {
            Ok(found) => groups.entry(found.system.identity.id.clone()).or_default().push(found),
            // What is wrong with the credential itself is wrong for every target.
            Err(error @ CallError::Credential(_)) => {
                return Err(Error::Invalid { field: None, message: error.to_string() });
            }
            Err(error) => {
                out.send(Event::Done(target.scope("snmp-target")?, coverage(&error))).await?;
                out.send(Event::Target(target.to_string())).await?;
            }
        }
    }
    drop(asking);
    let mut reading = Vec::new();
    for (id, mut group) in groups {
        group.sort_by(|a, b| a.target.cmp(&b.target));
        reading.push(device(snmp, read, reach, id, group, out.clone()).boxed());
    }
    stream::iter(reading.into_iter().map(Ok)).try_for_each_concurrent(read.concurrency, |device| device).await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(config: Value) -> String {
        let Value::Object(config) = config else { panic!("an object") };
        SnmpPlugin.check(&config).map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn settings_are_checked_and_errors_say_what_to_change() {
        for (config, part) in [
            (json!({ "targets": "a.example, 10.0.0.0/30", "concurrency": "4", "collectors": "arp,interfaces" }), "ok"),
            (json!({ "targets": "a", "site": "fra1", "wait_s": 5, "target_mib": "8" }), "ok"),
            (json!({}), "`targets` is missing"),
            (json!({ "targets": "a", "community": "public" }), "no setting `community`: it knows targets"),
            (json!({ "targets": "a", "collectors": "ports" }), "`ports`, which is unknown: use some of interfaces"),
            (json!({ "targets": "a", "concurrency": 0 }), "from 1 to 256"),
            (json!({ "targets": "a", "wait_s": "long" }), "`wait_s` is a whole number from 1 to 60"),
            (json!({ "targets": "a", "site": "a:b" }), "without `:`"),
        ] {
            let got = check(config.clone());
            assert!(got.contains(part), "{config}: {got}");
        }
    }
}
