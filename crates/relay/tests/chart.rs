//! The Helm chart, as far as it can be read without Helm: what the relay may do in a cluster, and that it asks for settings that there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: where it fails, the test fails")]

use std::path::Path;

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

#[test]
fn the_relay_may_list_namespaces_and_impersonate_and_nothing_else() {
    let rules = rules();
    let of = |begin: &str| rules.iter().filter(|line| line.starts_with(begin)).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("resources:"), ["resources: [\"namespaces\"]", "resources: [\"groups\"]", "resources: [\"users\"]"]);
    assert_eq!(of("verbs:"), ["verbs: [\"list\"]", "verbs: [\"impersonate\"]", "verbs: [\"impersonate\"]"]);
    assert!(of("- apiGroups:").iter().all(|line| *line == "- apiGroups: [\"\"]"));
    let all = rules.join("\n");
    for word in ["*", "escalate", "\"bind\"", "secrets", "nonResourceURLs", "userextras", "uids"] {
        assert!(!all.contains(word), "{word}");
    }
}

#[test]
fn groups_are_impersonated_by_name_with_a_prefix_and_roles_are_bound_to_theirs() {
    let rules = rules().join("\n");
    let (groups, users) = rules.split_once("resources: [\"users\"]").unwrap();
    let groups = groups.split_once("resources: [\"groups\"]").unwrap().1;
    // An empty list would be an open one: there is no chart without roles, and each name has the prefix.
    assert!(read("templates/rbac.yaml").starts_with("{{- if not .Values.cluster.roles }}\n{{- fail "));
    assert!(
        groups.trim_start().starts_with("verbs: [\"impersonate\"]\nresourceNames:\n{{- range .Values.cluster.roles }}"),
        "{groups}"
    );
    let prefixed =
        |text: &str| text.lines().filter(|line| line.starts_with("- {{")).all(|line| line.contains("printf \"cairn"));
    assert!(prefixed(groups) && prefixed(users), "{rules}");
    let all = read("templates/rbac.yaml");
    let bound = all.split_once("{{- range .Values.cluster.roles }}\n---").unwrap().1;
    assert!(bound.contains("name: {{ . | quote }}") && bound.contains("kind: Group"));
    assert_eq!(bound.matches("printf \"cairn-role:%s\"").count(), 2);
}

#[test]
fn the_chart_sets_only_what_the_relay_reads() {
    let (chart, sources) = (
        read("templates/relay.yaml"),
        concat!(include_str!("../src/config.rs"), include_str!("../src/cluster/settings.rs")),
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
