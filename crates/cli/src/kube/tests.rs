//! What becomes of a kubeconfig that somebody uses for other things too.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const PREFIX: &str = "cairn:cairn.example:acme:";
const THEIRS: &str = r#"
apiVersion: v1
kind: Config
current-context: mine
preferences: {colors: true}
clusters:
- name: mine
  cluster: {server: "https://10.0.0.1:6443", insecure-skip-tls-verify: true}
- name: cairn:cairn.example:acme:prod
  cluster: {server: "https://old", proxy-url: "socks5://127.0.0.1:1080"}
- name: cairn:other.example:acme:prod
  cluster: {server: "https://other.example"}
contexts:
- name: mine
  context: {cluster: mine, user: mine, namespace: "on"}
- name: cairn:cairn.example:acme:prod:view
  context: {cluster: x, user: y, namespace: theirs, extensions: [{name: a, extension: {b: "007"}}]}
- name: cairn:cairn.example:acme:gone:view
  context: {cluster: x, user: y}
users:
- name: mine
  user: {token: "123"}
unknown: {kept: [1, 2.5, null, "null"]}
"#;

fn one(destination: &str, role: &str, namespace: Option<&str>) -> Wanted {
    Wanted {
        name: format!("{PREFIX}{destination}:{role}"),
        cluster: format!("{PREFIX}{destination}"),
        server: format!("https://cairn.example/{destination}"),
        authority: None,
        namespace: namespace.map(str::to_owned),
        arguments: vec!["tokens".to_owned(), "add".to_owned(), destination.to_owned()],
    }
}

fn named<'a>(config: &'a Doc, list: &str, name: &str) -> &'a Doc {
    config.items(list).iter().find(|entry| entry.text("name") == name).unwrap()
}

#[test]
fn what_is_not_ours_stays_and_what_is_stale_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::fs::write(&path, THEIRS).unwrap();
    let merge_all = |config: &mut Doc| {
        merge(config, PREFIX, &[one("prod", "view", Some("shop")), one("test", "edit", Some("shop"))], "/usr/bin/cairn")
    };
    update(&path, merge_all).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let config: Doc = serde_saphyr::from_str(&text).unwrap();
    let before: Doc = serde_saphyr::from_str(THEIRS).unwrap();
    for same in ["current-context", "preferences", "unknown"] {
        assert_eq!(config.field(same), before.field(same), "{same}");
    }
    for (list, name) in
        [("clusters", "mine"), ("contexts", "mine"), ("users", "mine"), ("clusters", "cairn:other.example:acme:prod")]
    {
        assert_eq!(named(&config, list, name), named(&before, list, name));
    }
    let cluster = named(&config, "clusters", "cairn:cairn.example:acme:prod").field("cluster").unwrap();
    assert_eq!(
        (cluster.text("server"), cluster.text("proxy-url")),
        ("https://cairn.example/prod", "socks5://127.0.0.1:1080")
    );
    let context = named(&config, "contexts", "cairn:cairn.example:acme:prod:view").field("context").unwrap();
    assert_eq!((context.text("namespace"), context.text("cluster")), ("theirs", "cairn:cairn.example:acme:prod"));
    assert_eq!(context.items("extensions").len(), 1);
    let made = named(&config, "contexts", "cairn:cairn.example:acme:test:edit").field("context").unwrap();
    assert_eq!(made.text("namespace"), "shop");
    assert!(config.items("contexts").iter().all(|entry| !entry.text("name").contains(":gone:")));
    let exec =
        named(&config, "users", "cairn:cairn.example:acme:test:edit").field("user").unwrap().field("exec").unwrap();
    assert_eq!(exec.text("apiVersion"), "client.authentication.k8s.io/v1");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Once more changes nothing, not even the file.
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let first = inode();
    update(&path, merge_all).unwrap();
    assert_eq!(inode(), first);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no lock and no draft is left");
}

#[test]
fn a_file_that_is_not_understood_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for broken in
        ["{", "- a list\n", "clusters: {a: b}\n", "clusters:\n- 7\n  x: [\n", "a: 1\n---\nb: 2\n", "\"text\"\n"]
    {
        std::fs::write(&path, broken).unwrap();
        let failure = update(&path, |config| merge(config, PREFIX, &[one("prod", "view", None)], "cairn")).unwrap_err();
        assert!(failure.message.contains("cannot understand"), "{broken}: {}", failure.message);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_current_context_that_is_gone_is_none() {
    let mut config = Doc::Map(vec![("current-context".to_owned(), text(format!("{PREFIX}gone:view")))]);
    merge(&mut config, PREFIX, &[], "cairn").unwrap();
    assert_eq!(config.text("current-context"), "");
    let mut config = Doc::Map(vec![("current-context".to_owned(), text("mine"))]);
    merge(&mut config, PREFIX, &[], "cairn").unwrap();
    assert_eq!(config.text("current-context"), "mine");
}

#[test]
fn a_destination_is_chosen_by_namespace_and_role() {
    let reach = |name: &str, role: &str, namespaces: Option<&[&str]>| -> Reach {
        let namespaces = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        serde_json::from_value(serde_json::json!({
            "destination": "dst_00000000000000000000000000", "name": name, "kind": "kubernetes", "role": role, "namespaces": namespaces, "authority": "",
        }))
        .unwrap()
    };
    let all = [reach("prod", "view", None), reach("prod", "edit", Some(&["shop"])), reach("test", "view", None)];
    let all: Vec<&Reach> = all.iter().collect();
    let chosen = |named: &str, role: Option<&str>| {
        let role: Option<DestinationRole> = role.map(|role| role.parse().unwrap());
        choose(&all, named, role.as_ref())
            .map(|(one, namespace)| (one.role.clone(), namespace.map(|name| name.to_string())))
    };
    assert_eq!(chosen("test", None).unwrap(), ("view".to_owned(), None));
    assert_eq!(chosen("prod.pay", None).unwrap(), ("view".to_owned(), Some("pay".to_owned())));
    assert_eq!(chosen("prod.shop", Some("edit")).unwrap(), ("edit".to_owned(), Some("shop".to_owned())));
    assert!(chosen("prod.shop", None).unwrap_err().message.contains("view, edit"));
    assert!(chosen("prod.pay", Some("edit")).unwrap_err().message.contains("do not reach"));
    assert!(chosen("nowhere", None).is_err() && chosen("prod.", None).is_err());
}

#[test]
fn who_changes_the_file_has_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let cluster = format!("c{number}");
                update(path, |config| entry(config, "clusters", "cluster", &cluster).map(drop)).unwrap();
            });
        }
    });
    let config: Doc = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config.items("clusters").len(), 8);
}

#[test]
fn a_link_stays_one_and_the_lock_is_where_kubectl_looks() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("dotfiles"), dir.path().join("config"));
    std::fs::write(&file, THEIRS).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let locked = |config: &mut Doc| {
        assert!(dir.path().join("config.lock").exists() && !dir.path().join("dotfiles.lock").exists());
        set(config, "current-context", Some(text("other")));
        Ok(())
    };
    update(&link, locked).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read_to_string(&file).unwrap().contains("other"));
}

#[test]
fn what_somebody_added_to_how_a_token_is_asked_for_stays() {
    let mut config: Doc = serde_saphyr::from_str(THEIRS).unwrap();
    let wanted = [one("prod", "view", None)];
    merge(&mut config, PREFIX, &wanted, "/usr/bin/cairn").unwrap();
    let user = entry(&mut config, "users", "user", &wanted[0].name).unwrap();
    let mut exec = user.field("exec").unwrap().clone();
    set(&mut exec, "env", Some(Doc::List(vec![text("theirs")])));
    set(user, "exec", Some(exec.clone()));
    merge(&mut config, PREFIX, &wanted, "/usr/local/bin/cairn").unwrap();
    set(&mut exec, "command", Some(text("/usr/local/bin/cairn")));
    assert_eq!(entry(&mut config, "users", "user", &wanted[0].name).unwrap().field("exec"), Some(&exec));
}

#[test]
fn no_entries_of_a_server_and_tenant_are_taken_for_those_of_another() {
    let all: Vec<String> =
        ["https://c.example", "https://c.example:8443", "https://c.example:443", "https://c.example.net"]
            .iter()
            .flat_map(|server| ["8443", "443", "t", "t2"].map(|tenant| (server, tenant)))
            .map(|(server, tenant)| prefix(&server.parse().unwrap(), tenant))
            .collect();
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    // Port 443 is none.
    assert_eq!(different.len(), 12);
    for one in &different {
        let within: Vec<_> = different.iter().filter(|other| other.starts_with(one.as_str())).collect();
        assert_eq!(within, [one], "{one}");
    }
}
