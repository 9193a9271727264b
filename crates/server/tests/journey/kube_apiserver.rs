//! The real programs, the real `kubectl` and a real API server, whose own RBAC judges what our chart and what Cairn's bindings say. See
//! [`testkit::kube_apiserver`] for where it comes from: a machine without one runs none of this, and each test says so.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::cable::Cable;
use testkit::{KubeApiserver, chart, logs};

use crate::kubectl::{self, records};
use crate::relay_world::{Relay, port};
use crate::world::{Engine, Server, World, until};

/// A server, a relay that is what the chart makes of it, and somebody who is signed in.
pub(crate) struct Real {
    pub(crate) relay: Relay,
    _cable: Cable,
    pub(crate) server: Server,
    pub(crate) world: World,
    /// The token of the relay's service account.
    pub(crate) account: String,
    pub(crate) api: KubeApiserver,
}

/// What an operator says to the chart.
pub(crate) fn values() -> Value {
    json!({
        "server": "https://cairn.example.com",
        "cluster": {
            "name": "prod", "anyUser": true, "roles": ["view", "edit", "admin", "cairn-logs", "cairn-exec", "cairn-port-forward", "cairn-restart"],
            "groups": ["devs"], "actAs": {"users": ["deploy-bot"], "groups": ["ops"]},
        },
        "bindings": {"namespaces": 3},
    })
}

const OURS: &[&str] = &["-A", "-l", "app.kubernetes.io/managed-by=cairn"];

impl Real {
    /// None: this machine has no API server.
    pub(crate) fn start(engine: Engine) -> Option<Self> {
        let api = KubeApiserver::start()?;
        for namespace in ["cairn", "a", "b"] {
            api.admin(&["create", "namespace", namespace]);
        }
        // Every object of the chart, as it is; nothing here runs the pod, so its settings are read from it.
        for template in ["rbac.yaml", "relay.yaml"] {
            api.apply(&chart::render(template, &values(), "cairn"));
        }
        let pod = api.get(&["statefulset", "cairn-relay", "-n", "cairn"])["spec"]["template"]["spec"].clone();
        let settings: Vec<(String, String)> = pod["containers"][0]["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_str().unwrap_or_default().to_owned()))
            .filter(|(name, value)| name.starts_with("RELAY_CLUSTER_") && !value.is_empty())
            .collect();
        assert_eq!(settings.len(), 6, "{settings:?}");
        let account = api.admin(&["create", "token", pod["serviceAccountName"].as_str().unwrap(), "-n", "cairn"]);
        let account = account.trim().to_owned();
        logs::plant_as("service account", &account);

        let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
        let server = world.start();
        world.first_login(&server);
        let folder = world.path("account");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &api.authority).unwrap();
        std::fs::write(folder.join("token"), &account).unwrap();
        let (address, folder) = (api.address(), folder.to_str().unwrap().to_owned());
        let mut all = vec![("RELAY_CLUSTER_API", address.as_str()), ("RELAY_CLUSTER_ACCOUNT_DIR", &folder)];
        all.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let cable = Cable::to(port(&server));
        let mut relay = Relay::start(&world, &server, &cable, &all);
        relay.says("the cluster is registered");
        Some(Self { relay, _cable: cable, server, world, account, api })
    }

    /// Grants a role and has `kubectl` talk to the cluster.
    pub(crate) fn grant(&self, role: &str, context: &str, more: &[&str]) -> String {
        let id = kubectl::grant(&self.world, role, more);
        let _ = std::fs::remove_dir_all(self.world.path("home").join("tokens"));
        kubectl::select(&self.world, &[context]).ok();
        id
    }

    /// Runs `kubectl` and expects that it works.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = kubectl::kubectl(&self.world, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.relay.said());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, expects that it fails, and answers what it says.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = kubectl::kubectl(&self.world, arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} works: {}", String::from_utf8_lossy(&output.stdout));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub(crate) fn apply(&self, arguments: &[&str], name: &str, object: &Value) -> String {
        let file = self.world.private(name, &object.to_string());
        self.run(&[&["apply", "-f", file.to_str().unwrap()], arguments].concat())
    }

    /// The bindings that Cairn keeps: namespace, name, role and the only subject of each.
    fn bindings(&self) -> Vec<[String; 4]> {
        let all = self.api.get(&[&["rolebindings,clusterrolebindings"], OURS].concat());
        let text = |one: &Value, at: &str| one.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let items = all["items"].as_array().cloned().unwrap_or_default();
        assert!(items.iter().all(|one| one["subjects"].as_array().unwrap().len() == 1), "{items:#?}");
        let at = ["/metadata/namespace", "/metadata/name", "/roleRef/name", "/subjects/0/name"];
        let mut found: Vec<_> = items.iter().map(|one| at.map(|at| text(one, at))).collect();
        found.sort();
        found
    }

    fn bound(&self, expect: &[[&str; 4]]) {
        let expect: Vec<_> = expect.iter().map(|one| one.map(str::to_owned)).collect();
        until("the bindings", || (self.bindings() == expect).then_some(()));
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
}

/// What people do in a namespace where they hold `edit`.
fn work(real: &Real) {
    let who = real.run(&["auth", "whoami", "-o", "json"]);
    let who: Value = serde_json::from_str(&who).unwrap();
    let who = &who["status"]["userInfo"];
    assert_eq!(who["username"], "cairn:admin@localhost", "{who}");
    assert_eq!(who["groups"], json!(["cairn-role:edit@1", "system:authenticated"]), "{who}");
    for (what, may) in [
        (&["create", "deployments", "-n", "a"][..], true),
        (&["delete", "pods", "-n", "a"], true),
        (&["list", "secrets", "-n", "a"], true),
        (&["create", "rolebindings", "-n", "a"], false),
        (&["list", "pods", "-n", "b"], false),
        (&["list", "pods", "--all-namespaces"], false),
        (&["list", "nodes"], false),
        (&["impersonate", "users"], false),
        (&["*", "*"], false),
    ] {
        let words = [&["auth", "can-i"], what].concat();
        let said = if may { real.run(&words) } else { real.fail(&words) };
        assert!(said.contains(if may { "yes" } else { "no" }), "{what:?}: {said}");
    }
    assert!(real.run(&["auth", "can-i", "--list", "-n", "a"]).contains("deployments.apps"));

    // What there is, and what it is called.
    let resources = real.run(&["api-resources", "--verbs=list", "-o", "name"]);
    assert!(resources.contains("deployments.apps") && resources.contains("configmaps"), "{resources}");
    assert!(real.run(&["api-versions"]).contains("rbac.authorization.k8s.io/v1"));
    assert!(real.run(&["explain", "deployment.spec.replicas"]).contains("replicas"));
    assert!(real.run(&["version", "-o", "json"]).contains("serverVersion"));

    // Client side, server side, a conflict between the two, a patch, a scale, and away.
    real.apply(&[], "one.json", &config_map("one", "1"));
    real.apply(&["--server-side"], "two.json", &config_map("two", "1"));
    let file = real.world.private("two.json", &config_map("two", "2").to_string());
    let other = ["apply", "--server-side", "--field-manager=other", "-f", file.to_str().unwrap()];
    assert!(real.fail(&other).contains("conflict"));
    real.run(&[&other[..], &["--force-conflicts"]].concat());
    assert!(real.run(&["get", "configmap", "two", "-o", "jsonpath={.data.k}"]).contains('2'));
    real.run(&["patch", "configmap", "one", "--type=json", "-p", r#"[{"op":"replace","path":"/data/k","value":"3"}]"#]);
    real.run(&["patch", "configmap", "one", "--type=strategic", "-p", r#"{"data":{"l":"4"}}"#]);
    assert_eq!(real.run(&["get", "configmap", "one", "-o", "jsonpath={.data.k}{.data.l}"]), "34");
    let (labels, container) = (json!({"app": "web"}), json!({"name": "c", "image": "i"}));
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template});
    real.apply(
        &[],
        "web.json",
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}),
    );
    real.run(&["scale", "deployment", "web", "--replicas=3"]);
    assert!(real.run(&["get", "deployments"]).contains("0/3"));
    assert!(real.run(&["describe", "deployment", "web"]).contains("3 desired"));
    real.run(&["delete", "deployment", "web"]);
    let wrong = real.world.private(
        "wrong.json",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "No!"}}).to_string(),
    );
    assert!(real.fail(&["create", "-f", wrong.to_str().unwrap()]).contains("is invalid"));

    // Nowhere else: not by the relay's word, and (below) not by the cluster's own.
    for words in
        [&["get", "configmaps", "-n", "b"][..], &["get", "pods", "-A"], &["get", "nodes"], &["get", "namespaces"]]
    {
        let refused = real.fail(words);
        assert!(refused.contains("your grants are for the namespace a"), "{refused}");
    }
    let refused = real.fail(&["get", "rolebindings"]);
    assert!(refused.contains("cannot list resource \"rolebindings\""), "{refused}");

    // A list in pages, each with the mark of the page before.
    let many: Vec<Value> = (0..60).map(|at| config_map(&format!("many-{at}"), "")).collect();
    let many = json!({"apiVersion": "v1", "kind": "List", "items": many}).to_string();
    let many = real.world.private("many.json", &many);
    real.run(&["create", "-f", many.to_str().unwrap()]);
    assert_eq!(real.run(&["get", "configmaps", "--chunk-size=20", "-o", "name"]).lines().count(), 62);
    until("a record of each page", || (lists(&real.world) == 4).then_some(()));
    real.run(&["delete", "configmaps", "--all"]);
}

/// How many lists of config maps were answered, by the audit log.
fn lists(world: &World) -> usize {
    let is = |record: &&Value| {
        let detail = &record["detail"];
        (detail["verb"] == "list" && detail["resource"] == "configmaps") && record["outcome"] == "success"
    };
    records(world).iter().filter(is).count()
}

fn in_one_namespace(engine: Engine) {
    let Some(real) = Real::start(engine) else { return };
    let world = &real.world;
    let shown = world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    let namespaces: Vec<&str> = shown["namespaces"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(["a", "b", "kube-system"].iter().all(|one| namespaces.contains(one)), "{namespaces:?}");
    real.bound(&[]);
    assert_eq!(kubectl::select(world, &["prod"]).code, 1, "nothing is granted yet");

    let grant = real.grant("edit", "prod.a", &["--namespace", "a"]);
    work(&real);
    let edit = ["a", "cairn-role:edit", "edit", "cairn-role:edit@1"];
    real.bound(&[edit]);
    // Whoever gets past the relay's word gets no further: the group is bound there and nowhere else.
    let as_group = |namespace: &str| {
        let words = ["get", "configmaps", "-n", namespace, "--as=cairn:x", "--as-group=cairn-role:edit@1"];
        real.api.kubectl(&words).output().unwrap().status.success()
    };
    assert!(as_group("a") && !as_group("b"));

    // What somebody did by hand is put right, and what is not ours stays.
    real.api.admin(&["create", "rolebinding", "cairn-role:view", "-n", "b", "--clusterrole=view", "--user=somebody"]);
    let patch = r#"[{"op":"add","path":"/subjects/-","value":{"kind":"User","name":"eve","apiGroup":"rbac.authorization.k8s.io"}}]"#;
    real.api.admin(&["patch", "rolebinding", "cairn-role:edit", "-n", "a", "--type=json", "-p", patch]);
    until("the binding as it was", || {
        let binding = real.api.get(&["rolebinding", "cairn-role:edit", "-n", "a"]);
        (binding["subjects"].as_array().unwrap().len() == 1).then_some(())
    });

    // A watch ends with its grant; so does what is bound.
    let mut watch = kubectl::begin(kubectl::kubectl(world, &["get", "configmaps", "-w", "-o", "name"]));
    let mut shared = kubectl::begin(kubectl::kubectl(world, &["get", "secrets", "-w", "-o", "name"]));
    real.api.admin(&["create", "configmap", "seen", "-n", "a"]);
    real.api.admin(&["create", "secret", "generic", "seen", "-n", "a"]);
    assert_eq!((watch.line().trim(), shared.line().trim()), ("configmap/seen", "secret/seen"));
    world.cairn(["grants", "delete", &grant]).ok();
    let began = Instant::now();
    watch.ends();
    shared.ends();
    eprintln!("two watches ended {} ms after their grant", began.elapsed().as_millis());
    let refused = real.fail(&["get", "configmaps"]);
    assert!(refused.contains("logged in") || refused.contains("gone"), "{refused}");
    real.bound(&[]);
    assert_eq!(real.api.get(&["rolebinding", "cairn-role:view", "-n", "b"])["subjects"][0]["name"], "somebody");
    assert!(!as_group("a"));

    // In the whole cluster: a binding of another kind, and the places of namespaces are free again.
    let whole = real.grant("view", "prod", &[]);
    assert!(real.run(&["get", "configmaps", "-A"]).contains("seen"));
    assert!(real.fail(&["get", "secrets", "-n", "a"]).contains("cannot list resource \"secrets\""));
    assert!(real.fail(&["delete", "configmap", "seen", "-n", "a"]).contains("cannot delete resource"));
    real.bound(&[["", "cairn-role:view", "view", "cairn-role:view"]]);
    world.cairn(["grants", "delete", &whole]).ok();
    real.bound(&[]);

    // A name that is lent has what the cluster's operator binds to it, and nothing of who asks.
    real.api.admin(&["create", "rolebinding", "bot", "-n", "a", "--clusterrole=view", "--user=cairn:deploy-bot"]);
    real.api.admin(&["create", "rolebinding", "ops", "-n", "a", "--clusterrole=admin", "--group=cairn:ops"]);
    world.cairn(["groups", "create", "ops"]).ok();
    let lent = ["--namespace", "a", "--as", "deploy-bot", "--as-group", "ops", "--as", "other-bot"];
    real.grant("edit", "prod.a", &lent);
    let who = real.run(&["auth", "whoami", "--as=deploy-bot", "--as-group=ops", "-o", "json"]);
    let who: Value = serde_json::from_str(&who).unwrap();
    let who = &who["status"]["userInfo"];
    assert_eq!(who["username"], "cairn:deploy-bot", "{who}");
    assert_eq!(who["groups"], json!(["cairn:ops", "system:authenticated"]), "{who}");
    assert!(real.run(&["get", "configmaps", "--as=deploy-bot"]).contains("seen"));
    assert!(
        real.fail(&["delete", "configmap", "seen", "--as=deploy-bot"])
            .contains("User \"cairn:deploy-bot\" cannot delete")
    );
    assert!(real.run(&["get", "rolebindings", "--as=deploy-bot", "--as-group=ops"]).contains("cairn-role:edit"));
    for (more, expect) in [
        (&["--as=other-bot"][..], "no grant lets you act as `other-bot`"),
        (&["--as=system:admin", "--as-group=system:masters"], "no grant lets you act as `system:admin`"),
        (
            &["--as=deploy-bot", "--as-group=system:masters"],
            "no grant lets you act as `deploy-bot` in `system:masters`",
        ),
        (&["--as=deploy-bot", "--as-uid=1"], "nobody may act as another user's id"),
    ] {
        let refused = real.fail(&[&["get", "configmaps"], more].concat());
        assert!(refused.contains(expect), "{refused}");
    }
}

#[test]
fn attack_52_in_front_of_a_real_api_server_a_grant_reaches_its_namespace_and_ends_with_it_on_sqlite() {
    in_one_namespace(Engine::Sqlite);
}

#[test]
fn attack_52_in_front_of_a_real_api_server_a_grant_reaches_its_namespace_and_ends_with_it_on_postgresql() {
    in_one_namespace(Engine::postgres());
}

#[test]
fn in_front_of_a_real_api_server_the_charts_small_roles_do_what_they_say_and_nothing_else() {
    let Some(real) = Real::start(Engine::Sqlite) else { return };
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"team": "shop"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]},
    });
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    for kind in ["Deployment", "DaemonSet", "StatefulSet"] {
        let object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "a"}, "spec": spec});
        real.api.apply(&object.to_string());
    }
    let restarts = real.grant("cairn-restart", "prod.a", &["--namespace", "a"]);
    let image = ["set", "image", "deployment/web", "web=evil:1"];
    // An API server reads its policies from a watch: until it has this one, RBAC alone decides.
    until("the policy", || {
        let tried = kubectl::kubectl(&real.world, &[&image[..], &["--dry-run=server"]].concat()).output().unwrap();
        (!tried.status.success()).then_some(())
    });
    for kind in ["deployment", "daemonset", "statefulset"] {
        real.run(&["rollout", "restart", kind, "web"]);
        let restarted = real.api.get(&[kind, "web", "-n", "a"])["spec"]["template"]["metadata"]["annotations"].clone();
        assert!(
            restarted["kubectl.kubernetes.io/restartedAt"].is_string() && restarted["team"] == "shop",
            "{restarted}"
        );
    }
    assert!(real.fail(&image).contains("who may restart changes nothing of what runs"));
    for (patch, why) in [
        (r#"{"spec":{"replicas":0}}"#, "nothing of what runs"),
        (r#"{"spec":{"paused":true}}"#, "nothing of what runs"),
        (r#"{"spec":{"template":{"spec":{"serviceAccountName":"boss"}}}}"#, "nothing of what runs"),
        (r#"{"spec":{"template":{"metadata":{"labels":{"more":"1"}}}}}"#, "nothing of what runs"),
        (r#"{"spec":{"template":{"metadata":{"finalizers":["cairn.example.com/never"]}}}}"#, "nothing of what runs"),
        (r#"{"metadata":{"finalizers":["cairn.example.com/never"]}}"#, "no label, annotation"),
        (r#"{"metadata":{"labels":{"more":"1"}}}"#, "no label, annotation"),
        (r#"{"metadata":{"annotations":{"deprecated.daemonset.template.generation":"7"}}}"#, "no label, annotation"),
        (r#"{"spec":{"template":{"metadata":{"annotations":{"inject":"1"}}}}}"#, "no annotation of the pods but"),
        (r#"{"spec":{"template":{"metadata":{"annotations":{"team":null}}}}}"#, "no annotation of the pods but"),
        (
            r#"{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"$(run)"}}}}}"#,
            "which is a time",
        ),
    ] {
        let refused = real.fail(&["patch", "deployment", "web", "-p", patch]);
        assert!(refused.contains(why), "{patch}: {refused}");
    }
    for other in [
        &["get", "pods"][..],
        &["scale", "deployment/web", "--replicas=0"],
        &["delete", "deployment", "web"],
        &["create", "deployment", "other", "--image=evil:1"],
        &["rollout", "restart", "deployment/web", "-n", "b"],
    ] {
        real.fail(other);
    }
    // Who may do everything still does, through no role of Cairn's.
    real.api.admin(&["set", "image", "deployment/web", "web=web:2", "-n", "a"]);

    real.world.cairn(["grants", "delete", &restarts]).ok();
    let small = [
        ("cairn-logs", "log", "get"),
        ("cairn-exec", "exec", "create"),
        ("cairn-port-forward", "portforward", "create"),
    ];
    for (role, _, _) in small {
        let grant = real.grant(role, "prod.a", &["--namespace", "a"]);
        let asks = small.map(|(of, subresource, verb)| (verb, "pods", subresource, of == role));
        let more = [
            ("get", "pods", "", true),
            ("list", "pods", "", true),
            ("watch", "pods", "", false),
            ("delete", "pods", "", false),
            ("create", "pods", "attach", false),
            ("get", "secrets", "", false),
            ("patch", "deployments", "", false),
        ];
        for (verb, what, subresource, may) in asks.into_iter().chain(more) {
            let within = format!("--subresource={subresource}");
            let asked = kubectl::kubectl(&real.world, &["auth", "can-i", verb, what, &within]).output().unwrap();
            let said = String::from_utf8_lossy(&asked.stdout);
            let wrong = String::from_utf8_lossy(&asked.stderr);
            assert!(
                said.starts_with(if may { "yes" } else { "no" }),
                "{role}: {verb} {what} {subresource}: {said}{wrong}"
            );
        }
        real.world.cairn(["grants", "delete", &grant]).ok();
    }
}
