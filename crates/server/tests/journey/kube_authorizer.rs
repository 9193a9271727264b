//! What a real API server's own RBAC makes of our chart, and of headers that say who somebody is.

use serde_json::json;
use testkit::chart;

use crate::kube_answers::both;
use crate::kube_apiserver::{Real, values};
use crate::world::{Engine, until};

/// `kubectl` with the relay's own token, past everything of Cairn's but the chart.
fn as_relay(real: &Real, arguments: &[&str]) -> (bool, String) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{}", real.api.address()), "certificate-authority": real.world.path("account").join("ca.crt")}}],
        "users": [{"name": "u", "user": {"token": real.account}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let file = real.world.private("relay-kubeconfig", &config.to_string());
    let output = real.api.kubectl(arguments).env("KUBECONFIG", file).output().unwrap();
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// A question that everybody may ask, as somebody else.
fn api_as<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["get", "--raw", "/api"], more].concat()
}

#[test]
fn attack_47_a_real_authorizer_lets_the_relays_own_token_do_what_the_chart_says_and_no_more() {
    let Some(real) = Real::start(Engine::Sqlite) else { return };
    let may = |arguments: &[&str]| {
        let (worked, said) = as_relay(&real, arguments);
        assert!(worked, "{arguments:?}: {said}");
        said
    };
    let may_not = |arguments: &[&str]| {
        let (worked, said) = as_relay(&real, arguments);
        assert!(
            !worked && (said.contains("forbidden") || said.contains("attempting to grant RBAC permissions")),
            "{arguments:?}: {said}"
        );
    };
    assert!(may(&["auth", "whoami"]).contains("system:serviceaccount:cairn:cairn-relay"));
    may(&["get", "namespaces"]);
    for group in ["cairn-role:view", "cairn-role:view@1", "cairn-role:admin@3", "cairn:devs", "cairn:ops"] {
        may(&api_as(&["--as=cairn:ann@example.com", &format!("--as-group={group}")]));
    }
    // Names that are not the chart's, however near: by the letter, in number, by prefix.
    for group in [
        "system:masters",
        "system:nodes",
        "system:authenticated",
        "system:serviceaccounts",
        "cairn-role:view@4",
        "cairn-role:view@0",
        "cairn-role:view@01",
        "cairn-role:cluster-admin",
        "cairn-role:",
        "cairn-role:*",
        "cairn:other",
        "Cairn:devs",
        "devs",
        "view",
    ] {
        may_not(&api_as(&["--as=cairn:ann@example.com", &format!("--as-group={group}")]));
        may_not(&api_as(&["--as=cairn:ann@example.com", "--as-group=cairn:devs", &format!("--as-group={group}")]));
    }
    may_not(&api_as(&["--as=system:serviceaccount:kube-system:default"]));
    may_not(&api_as(&["--as=cairn:ann@example.com", "--as-uid=1"]));
    for words in [
        &["get", "secrets", "-A"][..],
        &["delete", "validatingadmissionpolicy", "cairn-relay"],
        &["delete", "validatingadmissionpolicybinding", "cairn-relay"],
        &["get", "pods", "-n", "cairn"],
        &["get", "configmaps", "-A"],
        &["get", "serviceaccounts", "-n", "cairn"],
        &["get", "clusterroles"],
        &["get", "nodes"],
        &["get", "namespace", "a"],
        &["create", "namespace", "c"],
        &["create", "token", "cairn-relay", "-n", "cairn"],
        &["create", "clusterrole", "more", "--verb=*", "--resource=*"],
        &["create", "role", "more", "-n", "a", "--verb=get", "--resource=pods"],
        &["create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--group=cairn:devs"],
        &["create", "rolebinding", "more", "-n", "a", "--clusterrole=cluster-admin", "--group=cairn:devs"],
        &["create", "rolebinding", "more", "-n", "a", "--clusterrole=system:node", "--group=cairn:devs"],
        &["delete", "clusterrolebinding", "cluster-admin"],
        &["delete", "clusterrolebinding", "cairn-relay"],
        &["delete", "clusterrole", "cairn-relay"],
        &["get", "--raw", "/metrics"],
        &["get", "--raw", "/logs"],
    ] {
        may_not(words);
    }
    // RBAC cannot say which names may be created: the chart's policy does, once the API server has read it.
    let other = ["create", "rolebinding", "other", "-n", "a", "--clusterrole=view", "--group=cairn:devs"];
    let dry = [&other[..], &["--dry-run=server"]].concat();
    until("the policy", || (!as_relay(&real, &dry).0).then_some(()));
    let binding = |name: &str, role: &str, label: &str, group: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "b", "labels": {"app.kubernetes.io/managed-by": label}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
        })
    };
    let mut two = binding("cairn-role:view", "view", "cairn", "cairn-role:view@3");
    let first = two["subjects"][0].clone();
    two["subjects"].as_array_mut().unwrap().push(first);
    let right = binding("cairn-role:view", "view", "cairn", "cairn-role:view@3");
    let create = |object: &serde_json::Value| {
        let file = real.world.private("binding.json", &object.to_string());
        as_relay(&real, &["create", "-f", file.to_str().unwrap()])
    };
    for wrong in [
        binding("other", "view", "cairn", "cairn-role:view@3"),
        binding("cairn-role:edit", "view", "cairn", "cairn-role:view@3"),
        binding("cairn-role:view", "view", "somebody", "cairn-role:view@3"),
        binding("cairn-role:view", "view", "cairn", "cairn-role:edit@3"),
        binding("cairn-role:view", "view", "cairn", "cairn-role:view"),
        binding("cairn-role:view", "view", "cairn", "cairn:devs"),
        binding("cairn-role:cairn-relay", "cairn-relay", "cairn", "cairn-role:cairn-relay@1"),
        two,
    ] {
        let (worked, said) = create(&wrong);
        assert!(!worked && said.contains("ValidatingAdmissionPolicy 'cairn-relay'"), "{wrong}: {said}");
    }
    assert!(create(&right).0, "what it does all day");
    // Without it (`bindings.policy=false`) there are also the roles that the chart offers, and its own, whose rights it has: ADR 0060 and 0068 say what
    // that is worth to who steals its token.
    real.api.admin(&["delete", "validatingadmissionpolicybinding", "cairn-relay"]);
    until("no policy", || as_relay(&real, &dry).0.then_some(()));
    may(&["create", "clusterrolebinding", "other", "--clusterrole=cairn-relay", "--group=cairn:devs"]);
    may_not(&["delete", "clusterrolebinding", "other"]);
    may(&other);
    may_not(&["delete", "rolebinding", "other", "-n", "a"]);
    may_not(&["patch", "rolebinding", "other", "-n", "a", "-p", "{}"]);

    // Where the operator lists users, there are no others.
    let is_any = |user: &str| as_relay(&real, &api_as(&[&format!("--as={user}")])).0;
    assert!(is_any("system:kube-controller-manager"), "RBAC knows no prefixes: the chart says so");
    let mut listed = values();
    listed["cluster"]["users"] = json!(["ann@example.com"]);
    listed["cluster"]["anyUser"] = json!(false);
    real.api.apply(&chart::render("rbac.yaml", &listed, "cairn"));
    until("the new rules", || (!is_any("system:kube-controller-manager")).then_some(()));
    assert!(is_any("cairn:ann@example.com") && is_any("cairn:deploy-bot"), "and those that are lent");
    for user in ["cairn:ann@example.co", "ann@example.com", "system:admin", "system:anonymous", "cairn:bob@example.com"]
    {
        assert!(!is_any(user), "{user}");
    }
}

#[test]
fn attack_48_a_real_api_server_hears_nothing_of_who_a_client_says_that_it_is() {
    let Some(real) = Real::start(Engine::Sqlite) else { return };
    real.grant("edit", "prod.a", &["--namespace", "a"]);
    real.run(&["get", "configmaps"]);
    let (through, _) = both(&real);
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = |more: &[(&str, &str)]| {
        through.ask("POST", path, &[&[("content-type", "application/json")], more].concat(), review)
    };
    for more in [
        &[][..],
        &[("x-remote-user", "system:admin"), ("x-remote-group", "system:masters"), ("x-remote-extra-scopes", "x")],
        &[("connection", "impersonate-user, impersonate-group, audit-id")],
        &[("connection", "close, x-remote-user"), ("x-remote-user", "system:admin")],
        &[("audit-id", "forged"), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")],
        &[("cookie", "a=b"), ("proxy-authorization", "Basic eDp4")],
    ] {
        let answer = ask(more);
        assert_eq!(answer.status, 201, "{more:?}: {}", String::from_utf8_lossy(&answer.body));
        let who = &answer.json()["status"]["userInfo"];
        assert_eq!(
            *who,
            json!({"username": "cairn:admin@localhost", "groups": ["cairn-role:edit@1", "system:authenticated"]}),
            "{more:?}"
        );
        assert_ne!(answer.header("audit-id"), "forged");
    }
    // The server takes what `Connection` names for its own connection's: nobody is there then, and never the relay.
    assert_eq!(ask(&[("connection", "authorization, impersonate-user")]).status, 401);
    // Nobody runs a command as somebody else than they meant: what is not lent is refused, in every spelling.
    for more in [
        &[("impersonate-user", "system:admin"), ("impersonate-group", "system:masters")][..],
        &[("impersonate-group", "system:masters")],
        &[("impersonate-uid", "1")],
        &[("impersonate-extra-scopes", "x")],
        &[("impersonate_group", "system:masters")],
        &[("impersonate-user", "deploy-bot"), ("impersonate-user", "system:admin")],
    ] {
        let answer = ask(more);
        assert!(
            matches!(answer.status, 400 | 403),
            "{more:?}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
}
