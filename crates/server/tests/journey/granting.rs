//! Access as administrators see it, with the real command line: a file of it, who reaches what, requests, reviews, and what another product granted.

use std::process::Command;

use crypto::system::SystemClock;
use domain::Clock as _;
use serde_json::{Value, json};
use testkit::logs;

use crate::world::{Engine, Ran, World, faketime, until};

const FILE: &str = "version: 1
name: team
groups:
- name: devs
  members: [bob@example.com]
destinations:
- {name: web1, labels: {env: prod}}
grants:
- {group: devs, role: deploy, destination: web1, reason: they run it}
";

/// Prints all that is in a bundle.
const INSIDE: &str = "
import sys, zipfile
bundle = zipfile.ZipFile(sys.argv[1])
for name in bundle.namelist():
    sys.stdout.buffer.write(bundle.read(name) + b'\\n')
";

/// Somebody else than the administrator, with a home of their own.
pub(crate) struct Other<'a> {
    world: &'a World,
    home: String,
}

impl<'a> Other<'a> {
    pub(crate) fn new(world: &'a World, server: &str, email: &str) -> Self {
        let made = world.cairn_secretly(["users", "create", email, "--name", email, "-o", "json"], "one_time_password");
        world.cairn(["members", "add", email, "--role", "read-only"]).ok();
        let first = world.private(&format!("first-of-{email}"), made["one_time_password"].as_str().unwrap());
        let password = world.private(&format!("password-of-{email}"), &logs::plant(&format!("granting-{email}")));
        let other = Self { world, home: format!("home-of-{email}") };
        let trust = world.fingerprint();
        let login = ["login", server, "--user", email, "--trust", &trust, "--password-file", first.to_str().unwrap()];
        other.cairn(&[&login[..], &["--new-password-file", password.to_str().unwrap()]].concat()).ok();
        other
    }

    pub(crate) fn cairn_command(&self, words: &[&str]) -> Command {
        let mut command = self.world.cairn_command(words);
        command.env("CAIRN_HOME", self.world.path(&self.home));
        command
    }

    pub(crate) fn cairn(&self, words: &[&str]) -> Ran {
        Ran::of(&self.cairn_command(words).output().unwrap(), "journey-cairn")
    }
}

fn host_key(world: &World, name: &str) -> String {
    let path = world.path(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    world.path(&format!("{name}.pub")).to_str().unwrap().to_owned()
}

fn items(world: &World, words: &[&str]) -> Vec<Value> {
    let shown = world.cairn(words.iter().chain(&["-o", "json"])).ok().json();
    // Who and what say more than a list.
    shown.get("items").unwrap_or(&shown).as_array().unwrap().clone()
}

fn names(world: &World, words: &[&str], field: &str) -> Vec<String> {
    items(world, words).iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

/// The difference is shown and then made, whole; the second time there is none; what is wrong says where and makes nothing.
fn a_file_is_applied(world: &World) {
    let path = world.private("access.yaml", FILE);
    let path = path.to_str().unwrap();
    let shown = world.cairn(["apply", "-f", path, "--dry-run"]);
    assert_eq!(shown.code, 3, "{}", shown.err);
    for line in ["+ group devs", "~ destination web1", "+ grant "] {
        assert!(shown.out.contains(line), "{line}: {}", shown.out);
    }
    let asked = world.cairn(["apply", "-f", path]);
    assert!(asked.code == 1 && asked.err.contains("--yes"), "{}", asked.err);
    assert!(items(world, &["groups", "list"]).is_empty() && items(world, &["grants", "list"]).is_empty());
    let made = world.cairn(["apply", "-f", path, "--yes"]).ok();
    assert_eq!(made.out, shown.out, "what is made is what was shown");

    let before = items(world, &["grants", "list"]);
    assert_eq!(before.len(), 1);
    let again = world.cairn(["apply", "-f", path, "--yes"]).ok();
    assert!(again.out.is_empty() && again.err.contains("nothing differs"), "{}\n{}", again.out, again.err);
    assert_eq!(world.cairn(["apply", "-f", path, "--dry-run"]).code, 0);
    assert_eq!(items(world, &["grants", "list"]), before);

    let new_group = FILE.replace("destinations:", "- name: ops\ndestinations:");
    for (wrong, at) in [
        (new_group.replace("role: deploy", "rolle: deploy"), ":10:"),
        (format!("{new_group}- {{group: ops, role: deploy, destination: gone, reason: x}}\n"), ":11: grants[1]"),
        (format!("{new_group}- {{user: nobody@example.com, role: deploy, destination: web1}}\n"), ":11: grants[1]"),
    ] {
        let path = world.private("wrong.yaml", &wrong);
        let path = path.to_str().unwrap();
        for how in ["--yes", "--dry-run"] {
            let refused = world.cairn(["apply", "-f", path, how]);
            assert_eq!(refused.code, 1, "{}\n{}", refused.out, refused.err);
            assert!(refused.err.contains(&format!("{path}{at}")), "{at}: {}", refused.err);
        }
        assert_eq!(names(world, &["groups", "list"], "name"), ["devs"], "nothing is half-done");
        assert_eq!(items(world, &["grants", "list"]), before);
    }
}

fn who_reaches_what(world: &World, bob: &Other<'_>) {
    let told = |words: &[&str], list: &str, field: &str| -> Vec<String> {
        let json = world.cairn(words.iter().copied().chain(["-o", "json"])).ok().json();
        json[list].as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told(&["access", "who", "web1"], "items", "email"), ["bob@example.com"]);
    assert_eq!(told(&["access", "what", "bob@example.com"], "items", "name"), ["web1"]);
    assert!(told(&["access", "what", "admin@localhost"], "items", "name").is_empty());
    // Who may only ask is told of apart.
    let create = ["grants", "create", "root", "--group", "devs", "--destination", "web1", "--approval", "-o", "json"];
    let eligible = world.cairn(create).ok().json()["id"].as_str().unwrap().to_owned();
    assert_eq!(told(&["access", "who", "web1"], "items", "role"), ["deploy"]);
    for words in [["access", "who", "web1"], ["access", "what", "bob@example.com"]] {
        assert_eq!(told(&words, "may_ask", "id"), [eligible.as_str()]);
        assert!(world.cairn(words).ok().out.contains("May ask for access"));
    }
    assert!(!bob.cairn(&["list"]).ok().out.contains("root"));
    assert!(bob.cairn(&["requests", "eligible"]).ok().out.contains("root"));
    assert_eq!(bob.cairn(&["ssh", "root@web1", "true"]).code, 1);
    world.cairn(["grants", "delete", &eligible]).ok();
    assert!(bob.cairn(&["list"]).ok().out.contains("deploy"));
    // Who may break glass is in no list of who holds grants, and said beside it, for people and for programs.
    let who = |words: &[&str]| world.cairn(words.iter().copied()).ok();
    let glass = |words: &[&str]| {
        let json = world.cairn(words.iter().copied().chain(["-o", "json"])).ok().json();
        let table = world.cairn(words.iter().copied()).ok().out;
        assert_eq!(table.contains("May break glass"), !json["break_glass"].is_null(), "{table}");
        json["break_glass"].clone()
    };
    assert_eq!(glass(&["access", "who", "web1"]), Value::Null);
    who(&["access", "policy", "--break-glass-group", "devs", "--break-glass-s-max", "900"]);
    let devs = json!({"group": "devs", "s_max": 900});
    assert_eq!(glass(&["access", "who", "web1"]), devs);
    assert_eq!(glass(&["access", "what", "bob@example.com"]), devs);
    assert_eq!(glass(&["access", "what", "admin@localhost"]), Value::Null);
    assert!(
        who(&["access", "export", "--name", "team"]).out.starts_with("# Besides, members of `devs` may break glass")
    );
    assert!(bob.cairn(&["access", "who", "web1"]).code == 1, "who reaches what is for who manages access");
    assert!(items(world, &["access", "unused"]).is_empty(), "a new grant is no unused one");
    // Seen from two hours later it is one.
    let mut later = world.cairn_command(["access", "unused", "--since", "1h", "-o", "json"]);
    later.env("LD_PRELOAD", faketime("+2h")).env("FAKETIME", "+2h");
    let unused = Ran::of(&later.output().unwrap(), "journey-cairn").ok().json();
    assert_eq!((unused[0]["group"].as_str(), unused[0]["role"].as_str()), (Some("devs"), Some("deploy")), "{unused}");

    let exported = world.cairn(["access", "export", "--name", "team"]).ok().out;
    assert!(exported.contains("they run it") && exported.contains("bob@example.com"), "{exported}");
    let path = world.private("exported.yaml", &exported);
    let same = world.cairn(["apply", "-f", path.to_str().unwrap(), "--dry-run"]);
    assert_eq!(same.code, 0, "what is exported is what is there: {}\n{}", same.out, same.err);
}

/// The grant of an approved request; who asks does not approve.
fn access_is_asked_for(world: &World, bob: &Other<'_>, ann: &Other<'_>) -> String {
    let ask = |who: &Other<'_>| {
        let words = ["requests", "create", "web1", "--role", "root", "--reason", "a disk is full", "-o", "json"];
        who.cairn(&words).ok().json()["id"].as_str().unwrap().to_owned()
    };
    let id = ask(bob);
    assert_eq!(names(world, &["requests", "list", "--pending"], "id"), [id.as_str()]);
    for one in [bob, ann] {
        assert_eq!(one.cairn(&["requests", "approve", &id]).code, 1);
    }
    assert!(!world.cairn(["access", "who", "web1"]).ok().out.contains("root"));
    let approved = world.cairn(["requests", "approve", &id, "--answer", "go on", "-o", "json"]).ok().json();
    assert_eq!(approved["state"], "approved", "{approved}");
    assert!(world.cairn(["access", "who", "web1"]).ok().out.contains("root"));
    assert!(bob.cairn(&["requests", "mine"]).ok().out.contains("approved"));
    assert_eq!(world.cairn(["requests", "deny", &id]).code, 1, "it is answered once");

    let second = ask(ann);
    world.cairn(["requests", "deny", &second, "--answer", "not today"]).ok();
    let third = ask(ann);
    ann.cairn(&["requests", "withdraw", &third]).ok();
    assert_eq!(world.cairn(["requests", "approve", &third]).code, 1, "what was taken back is not granted");
    assert!(items(world, &["requests", "list", "--pending"]).is_empty());
    assert!(!world.cairn(["access", "who", "web1"]).ok().out.contains("ann@example.com"));

    // An administrator's own request needs somebody else.
    let own = world.cairn(["requests", "create", "web1", "--role", "root", "--reason", "x", "-o", "json"]).ok().json();
    assert_eq!(world.cairn(["requests", "approve", own["id"].as_str().unwrap()]).code, 1);
    let roots = items(world, &["grants", "list"]).into_iter().find(|grant| grant["role"] == "root").unwrap();
    roots["id"].as_str().unwrap().to_owned()
}

/// A reviewer without a role that manages anything says what stays; the end of it is evidence that verifies offline.
fn access_is_reviewed(world: &World, ann: &Other<'_>, bob: &Other<'_>, root: &str) {
    let ends_at = SystemClock.now().plus_millis(86_400_000).to_string();
    let words = ["reviews", "create", "Autumn", "--reviewer", "ann@example.com", "--ends-at", &ends_at];
    let made = world.cairn(words.iter().chain(&["--undecided", "keep", "-o", "json"])).ok().json();
    let id = made["id"].as_str().unwrap();
    let seen = ann.cairn(&["reviews", "show", id, "-o", "json"]).ok().json();
    let all = seen.as_array().unwrap();
    let number = |about: &str| {
        let found = all.iter().find(|item| item.to_string().contains(about));
        found.unwrap_or_else(|| panic!("{about}: {seen}"))["number"].to_string()
    };
    assert_eq!(bob.cairn(&["reviews", "show", id]).code, 1, "it is no business of who does not review");
    assert_eq!(bob.cairn(&["reviews", "decide", id, "keep", &number(root), "--reason", "mine"]).code, 1);
    ann.cairn(&["reviews", "decide", id, "revoke", &number(root), "--reason", "the disk is mended"]).ok();
    assert!(!world.cairn(["access", "who", "web1"]).ok().out.contains("root"), "what is revoked is taken at once");
    ann.cairn(&["reviews", "decide", id, "keep", "--all-undecided", "--reason", "they run it"]).ok();
    let closed = world.cairn(["reviews", "close", id, "-o", "json"]).ok().json();
    assert_eq!(closed["revoked"].as_i64(), Some(1), "{closed}");
    let signed = until("signed evidence of the review", || {
        let all = items(world, &["reviews", "list"]);
        all.into_iter().find(|one| one["id"] == id && one["state"] == "attested")
    });
    assert_eq!(signed["evidence"].as_array().unwrap().len(), 2, "one for each control: {signed}");
    assert_eq!(ann.cairn(&["reviews", "decide", id, "revoke", "1", "--reason", "late"]).code, 1);

    for control in ["AC-2", "AC-6"] {
        let bundle = world.path(&format!("{control}.zip"));
        let bundle = bundle.to_str().unwrap();
        world.cairn(["evidence", "export", "--control", control, "-o", bundle]).ok();
        world.cairn(["evidence", "verify", bundle]).ok();
        let inside = Command::new("python3").args(["-B", "-c", INSIDE, bundle]).output().unwrap();
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        assert!(inside.contains(id) && inside.contains("the disk is mended"), "{control}: {inside}");
    }
}

fn access_is_administered(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let bob = Other::new(&world, &server.url, "bob@example.com");
    let ann = Other::new(&world, &server.url, "ann@example.com");
    let key = host_key(&world, "web1");
    let words = ["destinations", "create", "web1", "127.0.0.1:22", "--host-key-file", &key];
    // Whether a relay is in the way is said, and nothing is made before.
    let unsaid = world.cairn(words.iter().chain(&["--role", "deploy", "--role", "root"]));
    assert!(unsaid.code == 2 && unsaid.err.contains("--relay RELAY or --direct"), "{} {}", unsaid.code, unsaid.err);
    let made = world.cairn(words.iter().chain(&["--role", "deploy", "--role", "root", "--direct"])).ok();
    assert!(made.err.contains("nothing records what they do there"), "{}", made.err);
    assert_eq!(items(&world, &["destinations", "list"])[0]["way"], "direct");
    a_file_is_applied(&world);
    who_reaches_what(&world, &bob);
    let root = access_is_asked_for(&world, &bob, &ann);
    access_is_reviewed(&world, &ann, &bob, &root);
    server.stop();
}

#[test]
fn access_is_administered_on_sqlite() {
    access_is_administered(Engine::Sqlite);
}

#[test]
fn access_is_administered_on_postgresql() {
    access_is_administered(Engine::postgres());
}

/// What an Infra server (v0.21) says.
fn infra(key: &str) -> Value {
    let user = |id: &str, name: &str| json!({"id": id, "name": name, "providerNames": ["okta"]});
    json!({
        "users": {"totalCount": 2, "items": [user("u1", "Bob@Example.com"), user("u2", "ann@example.com")]},
        "groups": {"totalCount": 1, "items": [{"id": "g1", "name": "Developers", "totalUsers": 1}]},
        "members": {"g1": {"totalCount": 1, "items": [user("u1", "Bob@Example.com")]}},
        "grants": {"totalCount": 3, "items": [
            {"id": "a", "group": "g1", "privilege": "connect", "resource": "Bastion"},
            {"id": "b", "user": "u2", "privilege": "view", "resource": "prod.shop"},
            {"id": "c", "user": "u2", "privilege": "admin", "resource": "infra"},
        ]},
        "destinations": {"totalCount": 2, "items": [
            {"id": "d1", "name": "Bastion", "kind": "ssh", "connection": {"url": "bastion.example:2222", "ca": key}},
            {"id": "d2", "name": "prod", "kind": "kubernetes", "connection": {"url": "k:443", "ca": ""}},
        ]},
    })
}

fn an_infra_server_is_taken_over(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    for email in ["bob@example.com", "ann@example.com"] {
        Other::new(&world, &server.url, email);
    }
    let key = std::fs::read_to_string(host_key(&world, "bastion")).unwrap();
    let file = world.private("infra.json", &infra(&key).to_string());
    let import = |more: &[&str]| world.cairn(["import", "infra", file.to_str().unwrap()].iter().chain(more));

    let shown = import(&["--ssh-role", "deploy", "--dry-run"]);
    assert_eq!(shown.code, 3, "{}", shown.err);
    assert!(
        shown.out.contains("+ host bastion  bastion.example:2222, accounts deploy, direct: not recorded"),
        "{}",
        shown.out
    );
    let nothing_is_there = || {
        for kind in ["destinations", "groups", "grants"] {
            assert!(items(&world, &[kind, "list"]).is_empty(), "{kind}");
        }
    };
    nothing_is_there();

    // A host that the server refuses is named, and one in the middle of others leaves nothing of those before it.
    let mut broken = infra(&key);
    let hosts = broken["destinations"]["items"].as_array_mut().unwrap();
    for (name, key) in [("a-host", key.as_str()), ("m-host", "ssh-ed25519 AAAA"), ("z-host", key.as_str())] {
        hosts.push(json!({"id": name, "name": name, "kind": "ssh", "connection": {"url": "x.example:22", "ca": key}}));
    }
    broken["destinations"]["totalCount"] = json!(hosts.len());
    let broken = world.private("broken.json", &broken.to_string());
    let refused = world.cairn(["import", "infra", broken.to_str().unwrap(), "--ssh-role", "deploy", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("the SSH host `m-host`: "), "{}", refused.err);
    nothing_is_there();

    let without = import(&["--dry-run"]);
    assert!(without.err.contains("--ssh-role") && !without.out.contains("+ host"), "{}{}", without.err, without.out);

    let made = import(&["--ssh-role", "deploy", "--yes"]).ok();
    assert_eq!(made.out, shown.out, "what is made is what was shown");
    assert!(made.err.contains("the cluster `prod` waits"), "{}", made.err);
    assert!(made.err.contains("ann@example.com administers Infra"), "{}", made.err);
    let host = world.cairn(["destinations", "host", "bastion", "-o", "json"]).ok().json();
    assert_eq!((&host["address"], &host["roles"]), (&json!("bastion.example:2222"), &json!(["deploy"])));
    assert_eq!(host["host_key"].as_str().unwrap(), key.trim());
    assert_eq!(names(&world, &["groups", "list"], "name"), ["developers"]);
    assert_eq!(names(&world, &["access", "who", "bastion"], "email"), ["bob@example.com"]);
    assert!(items(&world, &["access", "what", "ann@example.com"]).is_empty(), "her cluster is not there yet");
    let members = items(&world, &["members", "list"]);
    let role = |email: &str| members.iter().find(|one| one["email"] == email).unwrap()["role"].clone();
    assert_eq!((role("ann@example.com"), role("bob@example.com")), (json!("read-only"), json!("read-only")));

    // Again: nothing differs and nothing is written, and a host that was changed since then stays as it is, with a word.
    let applied = || items(&world, &["audit", "list", "--all", "--action", "access_apply"]).len();
    let before = (applied(), items(&world, &["destinations", "list"]), items(&world, &["grants", "list"]));
    let again = import(&["--ssh-role", "deploy", "--yes"]).ok();
    assert!(again.out.is_empty() && again.err.contains("nothing differs"), "{}\n{}", again.out, again.err);
    assert!(!again.err.contains("bastion"), "{}", again.err);
    assert_eq!((applied(), items(&world, &["destinations", "list"]), items(&world, &["grants", "list"])), before);
    let key = world.path("bastion.pub");
    let words = ["destinations", "create", "bastion", "moved.example", "--host-key-file", key.to_str().unwrap()];
    let there = world.cairn(words.iter().chain(&["--role", "deploy", "--direct"]));
    assert_eq!(there.code, 1, "{}", there.out);
    assert!(
        there.err.contains("there is a destination `bastion` already") && there.err.contains("--replace"),
        "{}",
        there.err
    );
    world.cairn(words.iter().chain(&["--role", "deploy", "--replace"])).ok();
    let again = import(&["--ssh-role", "deploy", "--yes"]).ok();
    assert!(again.err.contains("nothing differs"), "{}\n{}", again.out, again.err);
    assert!(again.err.contains("the host bastion is there with another address, and stays so"), "{}", again.err);
    let host = world.cairn(["destinations", "host", "bastion", "-o", "json"]).ok().json();
    assert_eq!(host["address"], "moved.example:22");

    // What is written down is what is there.
    let path = world.path("written.yaml");
    import(&["--ssh-role", "deploy", "--write", path.to_str().unwrap()]).ok();
    let applied = world.cairn(["apply", "-f", path.to_str().unwrap(), "--missing-waits", "--dry-run"]);
    assert!(applied.code == 0 && applied.err.contains("nothing differs"), "{}\n{}", applied.out, applied.err);
    server.stop();
}

#[test]
fn an_infra_server_is_taken_over_on_sqlite() {
    an_infra_server_is_taken_over(Engine::Sqlite);
}

#[test]
fn an_infra_server_is_taken_over_on_postgresql() {
    an_infra_server_is_taken_over(Engine::postgres());
}
