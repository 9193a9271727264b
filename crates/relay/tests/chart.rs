//! The Helm chart, as far as it can be read without Helm: what the relay may do in a cluster, and that it asks for settings that there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: where it fails, the test fails")]

use std::path::Path;

use serde_json::{Value, json};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm/cairn-relay").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of the relay's own rules, without comments.
fn rules() -> Vec<String> {
    let text = read("templates/rbac.yaml");
    let rules = text.split_once("\nrules:\n").unwrap().1.split_once("\n---").unwrap().0;
    rules.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// What the relay may do whatever is set, and what only where it keeps bindings.
fn parts() -> (Vec<String>, Vec<String>) {
    let rules = rules();
    let at = rules.iter().position(|line| line == "{{- if .Values.bindings.sync }}").unwrap();
    let (always, synced) = rules.split_at(at);
    assert_eq!(synced.last().map(String::as_str), Some("{{- end }}"), "and nothing after it");
    (always.to_vec(), synced.to_vec())
}

fn of<'a>(rules: &'a [String], begin: &str) -> Vec<&'a str> {
    rules.iter().filter(|line| line.starts_with(begin)).map(String::as_str).collect()
}

#[test]
fn the_relay_may_list_namespaces_and_impersonate_and_without_bindings_nothing_else() {
    let (rules, synced) = parts();
    assert_eq!(
        of(&rules, "resources:"),
        ["resources: [\"namespaces\"]", "resources: [\"groups\"]", "resources: [\"users\"]"]
    );
    assert_eq!(of(&rules, "verbs:"), ["verbs: [\"list\"]", "verbs: [\"impersonate\"]", "verbs: [\"impersonate\"]"]);
    assert!(of(&rules, "- apiGroups:").iter().all(|line| *line == "- apiGroups: [\"\"]"));
    assert!(!rules.join("\n").contains("\"bind\""));
    let all = [rules, synced].concat().join("\n");
    for word in ["*", "escalate", "secrets", "nonResourceURLs", "userextras", "uids", "patch"] {
        assert!(!all.contains(word), "{word}");
    }
}

#[test]
fn the_relay_binds_roles_that_are_offered_and_changes_bindings_of_its_own_names() {
    let (_, rules) = parts();
    let bindings = "resources: [\"clusterrolebindings\", \"rolebindings\"]";
    assert_eq!(of(&rules, "resources:"), [bindings, bindings, "resources: [\"clusterroles\"]"]);
    assert_eq!(
        of(&rules, "verbs:"),
        ["verbs: [\"list\", \"create\"]", "verbs: [\"update\", \"delete\"]", "verbs: [\"bind\"]"]
    );
    // Kubernetes cannot limit `create` by name; the two others are limited.
    let names = |name: &str| ["resourceNames:", "{{- range .Values.cluster.roles }}", name, "{{- end }}"].join("\n");
    let all = rules.join("\n");
    let own = format!("verbs: [\"update\", \"delete\"]\n{}", names("- {{ printf \"cairn-role:%s\" . | quote }}"));
    let bind = format!("verbs: [\"bind\"]\n{}", names("- {{ . | quote }}"));
    assert!(all.contains(&own) && all.contains(&bind), "{all}");
    assert!(of(&rules, "- apiGroups:").iter().all(|line| *line == "- apiGroups: [\"rbac.authorization.k8s.io\"]"));
}

#[test]
fn groups_are_impersonated_by_name_with_a_prefix_and_roles_are_bound_to_theirs() {
    let rules = parts().0.join("\n");
    let (groups, users) = rules.split_once("resources: [\"users\"]").unwrap();
    let groups = groups.split_once("resources: [\"groups\"]").unwrap().1;
    // An empty list would be an open one: there is no chart without roles, and each name has the prefix.
    assert!(read("templates/rbac.yaml").starts_with("{{- if not .Values.cluster.roles }}\n{{- fail "));
    assert!(
        groups
            .trim_start()
            .starts_with("verbs: [\"impersonate\"]\nresourceNames:\n{{- range $role := .Values.cluster.roles }}"),
        "{groups}"
    );
    let prefixed =
        |text: &str| text.lines().filter(|line| line.starts_with("- {{")).all(|line| line.contains("printf \"cairn"));
    assert!(prefixed(groups) && prefixed(users), "{rules}");
    // As many numbered groups as the relay is told to use.
    assert!(
        groups.contains("{{- range $place := until $places }}\n- {{ printf \"cairn-role:%s@%d\" $role (add1 $place)")
    );
    assert!(read("templates/rbac.yaml").contains("{{- $places = int .Values.bindings.namespaces }}"));
    assert!(read("templates/relay.yaml").contains("value: {{ .Values.bindings.namespaces | quote }}"));
    // By hand: each role to the group without a number, and only then.
    let all = read("templates/rbac.yaml");
    let bound =
        all.split_once("{{- if not .Values.bindings.sync }}\n{{- range .Values.cluster.roles }}\n---").unwrap().1;
    assert!(bound.contains("name: {{ . | quote }}") && bound.contains("kind: Group"));
    assert_eq!(bound.matches("printf \"cairn-role:%s\"").count(), 2);
}

/// The chart's objects of one template with these values, each as YAML.
fn objects(template: &str, values: &Value) -> Vec<Value> {
    let text = testkit::chart::render(template, values, "cairn");
    text.split("\n---")
        .filter(|part| part.contains("kind:"))
        .map(|part| serde_saphyr::from_str(part).unwrap())
        .collect()
}

/// Why the chart does not render with these values.
fn refusal(values: Value) -> String {
    let why = std::panic::catch_unwind(|| testkit::chart::render("rbac.yaml", &values, "cairn")).unwrap_err();
    why.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn users_are_impersonated_by_name_unless_the_operator_says_that_anybody_may_be() {
    // An empty list would be an open one: the cluster's own users among them.
    assert!(refusal(json!({})).contains("set cluster.users"));
    assert!(refusal(json!({"cluster": {"users": ["ann@example.com"], "anyUser": true}})).contains("set either"));
    let users = |values: Value| {
        let all = objects("rbac.yaml", &values);
        let rules = all.iter().filter_map(|object| object["rules"].as_array()).flatten().cloned();
        let of_users: Vec<_> = rules.filter(|rule| rule["resources"] == json!(["users"])).collect();
        assert_eq!(of_users.len(), 1);
        of_users[0]["resourceNames"].clone()
    };
    let named = json!({"cluster": {"users": ["ann@example.com"], "actAs": {"users": ["bot"]}}});
    assert_eq!(users(named), json!(["cairn:ann@example.com", "cairn:bot"]));
    assert_eq!(users(json!({"cluster": {"anyUser": true}})), Value::Null);
}

#[test]
fn what_the_relay_creates_is_kept_to_its_own_names_by_a_policy_of_the_cluster() {
    let policies = |policy: bool| {
        let all = objects("rbac.yaml", &json!({"cluster": {"anyUser": true}, "bindings": {"policy": policy}}));
        let of = |kind: &str| all.iter().find(|object| object["kind"] == *kind).cloned();
        (of("ValidatingAdmissionPolicy"), of("ValidatingAdmissionPolicyBinding"))
    };
    let (Some(policy), Some(binding)) = policies(true) else { panic!("no policy") };
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    let rules = &policy["spec"]["matchConstraints"]["resourceRules"][0];
    assert_eq!(rules["operations"], json!(["CREATE", "UPDATE"]));
    assert_eq!(rules["resources"], json!(["clusterrolebindings", "rolebindings"]));
    let spec = policy["spec"].to_string();
    assert!(spec.contains("request.userInfo.username == \\\"system:serviceaccount:cairn:cairn-relay\\\""), "{spec}");
    assert!(spec.contains("object.metadata.name == \\\"cairn-role:\\\" + object.roleRef.name"), "{spec}");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["spec"]["validationActions"], json!(["Deny", "Audit"]));
    assert_eq!(policies(false), (None, None));
    // It is about the service account that the pod has, and there unless somebody says no.
    let values = json!({"server": "https://cairn.example.com", "cluster": {"name": "prod", "anyUser": true}});
    let pod = objects("relay.yaml", &values).into_iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    assert_eq!(pod["spec"]["template"]["spec"]["serviceAccountName"], "cairn-relay");
    assert!(read("values.yaml").contains("\n  policy: true\n"));
}

#[test]
fn small_roles_are_there_where_they_are_offered_and_hold_no_more_than_their_names_say() {
    let roles = |offered: &[&str]| {
        let all = objects("rbac.yaml", &json!({"cluster": {"anyUser": true, "roles": offered}}));
        let roles = all.into_iter().filter(|object| object["kind"] == "ClusterRole");
        let roles = roles.map(|role| (role["metadata"]["name"].as_str().unwrap().to_owned(), role["rules"].clone()));
        roles.filter(|(name, _)| name != "cairn-relay").collect::<Vec<_>>()
    };
    assert!(roles(&["view", "edit", "admin"]).is_empty(), "none is made that nobody asked for");
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let pods = rule("", &["pods"], &["get", "list"]);
    let workloads = ["daemonsets", "deployments", "statefulsets"];
    let expect = [
        ("cairn-logs", json!([pods, rule("", &["pods/log"], &["get"])])),
        ("cairn-exec", json!([pods, rule("", &["pods/exec"], &["create", "get"])])),
        ("cairn-port-forward", json!([pods, rule("", &["pods/portforward"], &["create", "get"])])),
        ("cairn-restart", json!([rule("apps", &workloads, &["get", "list", "watch", "patch"])])),
    ];
    let expect = expect.map(|(name, rules)| (name.to_owned(), rules));
    assert_eq!(roles(&["view", "cairn-logs", "cairn-exec", "cairn-port-forward", "cairn-restart"]), expect);
    assert_eq!(roles(&["cairn-exec"]), expect[1..2]);
    // What `patch` would let through besides is kept out by a policy, and without it there is no such role.
    let offered = |policy: bool| json!({"cluster": {"anyUser": true, "roles": ["cairn-restart"]}, "bindings": {"policy": policy}});
    assert!(refusal(offered(false)).contains("cairn-restart needs bindings.policy"));
    let all = objects("rbac.yaml", &offered(true));
    let of =
        |kind: &str| all.iter().find(|one| one["kind"] == *kind && one["metadata"]["name"] == "cairn-restart").unwrap();
    let policy = &of("ValidatingAdmissionPolicy")["spec"];
    assert_eq!(
        (&policy["failurePolicy"], &policy["matchConstraints"]["resourceRules"][0]["resources"]),
        (&"Fail".into(), &json!(workloads))
    );
    assert_eq!(of("ValidatingAdmissionPolicyBinding")["spec"]["validationActions"], json!(["Deny", "Audit"]));
}

#[test]
fn roles_of_namespaces_are_bound_and_impersonated_by_name_and_only_with_a_number() {
    let values = |own: &[&str], sync: bool| json!({"cluster": {"anyUser": true, "namespaceRoles": own}, "bindings": {"namespaces": 2, "sync": sync}});
    let name = "cairn-relay-namespace-roles";
    let none = objects("rbac.yaml", &values(&[], true));
    assert!(none.iter().all(|object| object["metadata"]["name"] != name), "none is offered that nobody named");
    assert!(refusal(values(&["deployer"], false)).contains("cluster.namespaceRoles needs bindings.sync"));
    let all = objects("rbac.yaml", &values(&["deployer"], true));
    let of = |kind: &str| all.iter().find(|one| one["kind"] == *kind && one["metadata"]["name"] == name).unwrap();
    let rbac = "rbac.authorization.k8s.io";
    let expect = json!([
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"],
            "resourceNames": ["cairn-role:role:deployer@1", "cairn-role:role:deployer@2"]},
        {"apiGroups": [rbac], "resources": ["rolebindings"], "verbs": ["update", "delete"], "resourceNames": ["cairn-role:role:deployer"]},
        {"apiGroups": [rbac], "resources": ["roles"], "verbs": ["bind"], "resourceNames": ["deployer"]},
    ]);
    assert_eq!(of("ClusterRole")["rules"], expect);
    assert_eq!(of("ClusterRoleBinding")["subjects"][0]["name"], "cairn-relay");
    // The policy lets a Role be bound under its name, in its namespace, to a numbered group; without such roles it says nothing of them.
    let policy = |all: &[Value]| {
        all.iter().find(|one| one["kind"] == "ValidatingAdmissionPolicy").unwrap()["spec"]["validations"].clone()
    };
    let said = policy(&all);
    assert!(
        said.to_string().contains(r#"object.metadata.name == \"cairn-role:role:\" + object.roleRef.name"#),
        "{said}"
    );
    assert!(
        said.to_string().contains(r#"object.kind == \"RoleBinding\" && object.roleRef.kind == \"Role\""#),
        "{said}"
    );
    assert!(!policy(&none).to_string().contains("role:role"));
    let pod = json!({"server": "https://cairn.example.com", "cluster": {"name": "prod", "anyUser": true, "namespaceRoles": ["deployer"]}});
    let pod = objects("relay.yaml", &pod).into_iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    let settings = pod["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    assert!(settings.contains(&json!({"name": "RELAY_CLUSTER_NAMESPACE_ROLES", "value": "deployer"})), "{settings:?}");
}

#[test]
fn the_key_of_the_way_in_without_the_server_is_the_pods_alone() {
    let direct = json!({"enabled": true, "address": "k8s.example.com:6443", "certificateSecret": "cairn-direct"});
    let values =
        json!({"server": "https://cairn.example.com", "cluster": {"name": "prod", "anyUser": true}, "direct": direct});
    let all = objects("relay.yaml", &values);
    let pod = &all.iter().find(|object| object["kind"] == "StatefulSet").unwrap()["spec"]["template"]["spec"];
    let settings = pod["containers"][0]["env"].as_array().unwrap();
    let key = settings.iter().find(|one| one["name"] == "RELAY_CLUSTER_KEY").unwrap()["value"].as_str().unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|one| key.starts_with(one["mountPath"].as_str().unwrap())).unwrap();
    let volume = pod["volumes"].as_array().unwrap().iter().find(|one| one["name"] == mount["name"]).unwrap();
    // As the kubelet writes it: root's, of the pod's group, which alone may read it besides. So the relay takes it, as `fleet::read_key` says.
    assert_eq!(
        (&volume["secret"]["defaultMode"], &volume["secret"]["secretName"]),
        (&json!(0o440), &json!("cairn-direct"))
    );
    let security = &pod["securityContext"];
    assert_eq!(security["fsGroup"], security["runAsGroup"]);
    assert!(security["runAsUser"].as_u64().unwrap() != 0 && security["runAsNonRoot"] == true);
}

#[test]
fn the_chart_sets_only_what_the_relay_reads() {
    let (chart, sources) = (
        read("templates/relay.yaml"),
        concat!(
            include_str!("../src/config.rs"),
            include_str!("../src/cluster/settings.rs"),
            include_str!("../src/direct.rs")
        ),
    );
    let names: Vec<_> = chart.lines().filter_map(|line| line.trim().strip_prefix("- name: RELAY_")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("`RELAY_{name}`")), "RELAY_{name}");
    }
    let roles =
        read("values.yaml").lines().find_map(|line| line.trim().strip_prefix("roles: ").map(str::to_owned)).unwrap();
    assert!(sources.contains(&format!("\"{}\"", roles.trim_matches(['[', ']']).replace(", ", ","))), "{roles}");
}
