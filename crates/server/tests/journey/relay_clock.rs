//! A relay on a machine whose clock is off: users are let in and kept out by the time of the server, which signed what they bring.

use testkit::cable::Cable;
use testkit::{KubeApi, Sshd, logs};

use crate::kubectl;
use crate::relay_world::{Relay, port};
use crate::ssh_access::{create, grant, refused, told};
use crate::world::{Engine, World, faketime};

fn users_come_and_go(by: &'static str, hosts: Result<(), &str>) {
    assert!(rustix::process::geteuid().is_root(), "sshd has to run a command as another user: run this test as root");
    let account = logs::plant("service-account");
    let (api, mut sshd) = (KubeApi::start(&account), Sshd::start());
    let user = sshd.user();
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let folder = world.path("account");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ca.crt"), &api.authority).unwrap();
    std::fs::write(folder.join("token"), &account).unwrap();
    let (address, library) = (api.address(), faketime(by));
    let settings = [
        ("LD_PRELOAD", &*library),
        ("FAKETIME", by),
        ("RELAY_CLUSTER_NAME", "prod"),
        ("RELAY_CLUSTER_API", &address),
        ("RELAY_CLUSTER_ACCOUNT_DIR", folder.to_str().unwrap()),
    ];
    let mut relay = Relay::start(&world, &server, &Cable::to(port(&server)), &settings);
    relay.says("this machine's clock is off");
    relay.says("the cluster is registered");
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();

    kubectl::grant(&world, "edit", &[]);
    kubectl::select(&world, &["prod"]).ok();
    let pods = kubectl::kubectl(&world, &["get", "pods", "-n", "a"]).output().unwrap();
    assert!(pods.status.success(), "{}\n{}", String::from_utf8_lossy(&pods.stderr), relay.said());

    create(&world, "web1", &sshd, &["--relay", "rly-1"]);
    sshd.restart_with(&told(&world, "web1", ""));
    let given = grant(&world, "web1", &user);
    let ran = world.cairn(["ssh", "web1", "id", "-un"]);
    match hosts {
        Ok(()) => assert_eq!(ran.ok().out.trim(), user, "{}", relay.said()),
        Err(why) => refused(&ran, why),
    }
    world.cairn(["grants", "delete", &given]).ok();
    refused(&world.cairn(["ssh", "web1", "id"]), "destination");
    relay.stop();
    server.stop();
}

#[test]
fn attack_53_a_relay_whose_clock_is_ahead_lets_users_in_by_the_servers_time() {
    // But not to hosts: OpenSSH's certificates are judged by the clock of the machine, and whoever waits there is told so.
    users_come_and_go("+600s", Err("the clock of the relay's machine is 600 s ahead"));
}

#[test]
fn attack_53_a_relay_whose_clock_is_late_lets_users_in_by_the_servers_time() {
    // Less than a minute, which is more than a token is forgiven.
    users_come_and_go("-45s", Ok(()));
}
