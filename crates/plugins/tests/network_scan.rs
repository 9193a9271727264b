//! The `network-scan` plugin against hosts that are network namespaces. Needs root, as CI is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code outside of test functions")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{Coverage, CredentialId, Page, Result, ScopeId};
use plugins::{NetworkScanPlugin, Plugin as _, Sink};
use serde_json::{Value, json};
use testkit::{Lab, TestClock};
use transport::{AwsReach, Guard, HostReach, Reach, Recorder, ScanReach, Scanner};

struct Near(Scanner);

impl Reach for Near {
    fn aws(&self) -> Option<&dyn AwsReach> {
        None
    }
    fn host(&self) -> Option<&dyn HostReach> {
        None
    }
    fn scan(&self) -> Option<&dyn ScanReach> {
        Some(&self.0)
    }
    fn credential(&self) -> Option<CredentialId> {
        None
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

#[derive(Default, Debug, PartialEq)]
struct Seen {
    nodes: BTreeMap<String, Value>,
    edges: Vec<String>,
    verdicts: BTreeMap<String, String>,
}

#[async_trait]
impl Sink for Seen {
    async fn page(&mut self, page: Page) -> Result<()> {
        for node in page.nodes {
            self.nodes.insert(node.id.to_string(), node.properties.into());
        }
        self.edges.extend(page.edges.iter().map(|edge| format!("{} {} {}", edge.source, edge.edge_type, edge.target)));
        Ok(())
    }
    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.verdicts.insert(scope.to_string(), coverage.as_str().to_owned());
        Ok(())
    }
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

fn scan_into<S: Sink>(lab: &Lab, config: &Value, mut sink: S) -> S {
    let config = config.as_object().unwrap().clone();
    let near = Near(Scanner::new(Guard::default(), Arc::new(TestClock::default()), Arc::new(Recorder::default())));
    lab.here(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            for task in NetworkScanPlugin.plan(&config, &near).await.unwrap() {
                NetworkScanPlugin.run(&task, &near, &mut sink).await.unwrap();
            }
            sink
        })
    })
}

#[tokio::test]
async fn a_validation_says_what_may_not_be_scanned() {
    let near = Near(Scanner::new(Guard::default(), Arc::new(TestClock::default()), Arc::new(Recorder::default())));
    let config = json!({"targets": ["10.1.2.0/30", "172.16.0.0/15", "127.0.0.0/30", "169.254.169.254/32"]});
    let checks = plugins::Checks::default();
    NetworkScanPlugin.validate(config.as_object().unwrap(), &near, &checks).await.unwrap();
    let told: Vec<_> = checks.all().into_iter().map(|check| (check.what, check.outcome.to_string())).collect();
    let of = |what: &str, outcome: &str| (what.to_owned(), outcome.to_owned());
    assert_eq!(
        told,
        [
            of("10.1.2.0/30", "good"),
            of("127.0.0.0/30", "denied"),
            of("169.254.169.254/32", "denied"),
            of("172.16.0.0/15", "good")
        ],
        "what a job is refused is not told as good, and what it takes in parts is"
    );
}

fn scan(lab: &Lab, config: &Value) -> Seen {
    scan_into(lab, config, Seen::default())
}

/// What blocks scanners: once a port is seen its host answers no more.
struct Blocking<'a>(Seen, &'a Lab);

#[async_trait]
impl Sink for Blocking<'_> {
    async fn page(&mut self, page: Page) -> Result<()> {
        if page.nodes.iter().any(|node| node.id.node_type() == "network.service") {
            self.1.hosts("ip route del local 10.60.0.9/32 dev lo");
        }
        self.0.page(page).await
    }
    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.0.scope_done(scope, coverage).await
    }
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

#[test]
fn a_scan_shows_hosts_and_services_and_a_second_one_shows_the_same() {
    let lab = Lab::new();
    lab.hosts("ip route add local 10.60.0.8/30 dev lo; ip route add blackhole 10.60.0.0/24");
    lab.there(|| {
        let listener = TcpListener::bind("10.60.0.9:2121").unwrap();
        std::thread::spawn(move || {
            for (n, stream) in (0u64..).zip(listener.incoming()) {
                let _ =
                    stream.and_then(|mut stream| write!(stream, "220 ftp.example ready <{n}.17@ftp> 12:00:{n:02}\r\n"));
            }
        });
    });
    let config = json!({"targets": "10.60.0.0/24", "site": "lab", "ports": "2000-2200", "rate": 100_000});
    let first = scan(&lab, &config);
    let addresses: Vec<String> = (8..12).map(|n| format!("network:lab:network.address:10.60.0.{n}")).collect();
    assert!(addresses.iter().all(|id| first.nodes.contains_key(id)), "{:?}", first.nodes);
    assert_eq!(first.nodes.len(), 5);
    assert_eq!(
        first.nodes["network:lab:network.service:10.60.0.9:2121/tcp"],
        json!({"address": "10.60.0.9", "port": 2121, "protocol": "tcp", "banner": "220 ftp.example ready *"})
    );
    assert_eq!(first.edges, [format!("{} contains network:lab:network.service:10.60.0.9:2121/tcp", addresses[1])]);
    assert_eq!(first.verdicts.values().collect::<Vec<_>>(), ["complete"; 3]);
    assert_eq!(scan(&lab, &config), first, "nothing in it changes by itself");

    // A scan that looks for less has scopes of its own: it closes nothing of this one.
    let narrow = scan(&lab, &json!({"targets": "10.60.0.0/24", "site": "lab", "ports": "80", "rate": 100_000}));
    let services = |seen: &Seen| seen.verdicts.keys().find(|scope| scope.contains(":services@")).unwrap().clone();
    assert_ne!(services(&narrow), services(&first));
}

#[test]
fn what_must_not_be_scanned_is_denied_and_closes_nothing() {
    let lab = Lab::new();
    for target in ["127.0.0.1", "169.254.169.254", "100.100.100.192/28"] {
        let seen = scan(&lab, &json!({"targets": target, "ports": "80"}));
        assert!(seen.nodes.is_empty());
        assert_eq!(seen.verdicts.values().collect::<Vec<_>>(), ["denied"; 3], "{target}");
    }
}

#[test]
fn silence_of_all_closes_nothing_and_neither_does_one_that_stops_answering_during_the_scan() {
    let lab = Lab::new();
    lab.hosts("ip route add blackhole 10.60.0.0/24");
    let seen = scan(&lab, &json!({"targets": "10.60.0.0/28", "ports": "80", "rate": 100_000}));
    assert_eq!(seen.verdicts.values().collect::<Vec<_>>(), ["partial"; 3]);

    lab.hosts("ip route add local 10.60.0.9/32 dev lo");
    let listener = lab.there(|| TcpListener::bind("10.60.0.9:2121").unwrap());
    let config = json!({"targets": "10.60.0.0/28", "ports": "2121", "rate": 100_000, "discovery": "icmp"});
    let Blocking(seen, _) = scan_into(&lab, &config, Blocking(Seen::default(), &lab));
    drop(listener);
    let verdict = |kind: &str| seen.verdicts.iter().find(|(scope, _)| scope.contains(kind)).unwrap().1.as_str();
    assert_eq!((verdict(":addresses@"), verdict(":services@")), ("complete", "partial"));
}
