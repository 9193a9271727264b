//! What the journeys by SSH begin with: a host with an unmodified `sshd`, a server whose administrator is signed in, and a relay before the host.

use serde_json::Value;
use testkit::Sshd;
use testkit::cable::Cable;

use crate::relay_world::{Relay, port};
use crate::ssh_access::{create, told};
use crate::world::{Engine, Server, World};

/// A host, and the server that knows of it.
pub(crate) struct Host {
    pub(crate) sshd: Sshd,
    /// The account that is reached.
    pub(crate) user: String,
    pub(crate) world: World,
    pub(crate) server: Server,
}

impl Host {
    /// `lines`: what its `sshd` is told before its own. As root, as CI is: it runs its command for principals as another user.
    pub(crate) fn start(engine: Engine, lines: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "sshd has to run a command as another user: run this test as root"
        );
        let sshd = Sshd::start_with(lines);
        let user = sshd.user();
        let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
        let server = world.start();
        world.first_login(&server);
        Self { sshd, user, world, server }
    }

    /// A relay, connected by this cable.
    pub(crate) fn relay(&self, settings: &[(&str, &str)]) -> (Cable, Relay) {
        let cable = Cable::to(port(&self.server));
        let relay = Relay::start(&self.world, &self.server, &cable, settings);
        (cable, relay)
    }

    /// Says that this machine is a target of relays.
    pub(crate) fn allow(&self) {
        self.world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    }

    /// Makes it the destination `web1`, and tells its `sshd` so.
    pub(crate) fn register(&mut self, more: &[&str]) -> Value {
        let made = create(&self.world, "web1", &self.sshd, more);
        self.sshd.restart_with(&told(&self.world, "web1", ""));
        made
    }
}
