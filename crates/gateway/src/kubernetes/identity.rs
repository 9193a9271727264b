//! As whom a request goes on: the user and the groups that the API server is told, each with a prefix of Cairn.
//!
//! A role is a group as well, with a prefix that no group of a user can have: the cluster binds it once, and a grant decides request by request
//! whether it is set. So nothing in the cluster has to be written when a grant comes or goes.

use domain::{Lent, Slug};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Admission, Call, Refusal, Roles};

/// Before a user's name, and before a group's.
pub const PREFIX: &str = "cairn:";
/// Before a role's name, as a group. No group of a user begins like this.
pub const ROLE_PREFIX: &str = "cairn-role:";
/// Most groups of one request.
const GROUPS_MAX: usize = 256;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Whom the API server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: HeaderValue,
    groups: Vec<HeaderValue>,
    is_another: bool,
}

/// What a client asks to be instead of itself (`kubectl --as`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    user: Option<String>,
    groups: Vec<String>,
}

/// Whether a header speaks of impersonation, in whatever spelling a reader on the way could take for it.
fn is_about_impersonation(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.get(..11).is_some_and(|start| start.eq_ignore_ascii_case(b"impersonate"))
        && matches!(name.get(11), None | Some(b'-' | b'_' | b'.'))
}

/// What the client asks for in its headers. Passing it over would run a command as somebody else than its user meant, so what cannot be granted
/// is refused.
fn asked(headers: &HeaderMap) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    for (name, value) in headers {
        if !is_about_impersonation(name) {
            continue;
        }
        let value = value.to_str().map_err(|_| Refusal::Malformed("a name to act as is not in ASCII"))?;
        match name.as_str() {
            "impersonate-user" if asked.user.is_none() => asked.user = Some(value.to_owned()),
            "impersonate-user" => return Err(Refusal::Malformed("two users to act as")),
            "impersonate-group" => asked.groups.push(value.to_owned()),
            _ => {
                return Err(Refusal::Forbidden(
                    "nobody may act as another user's id or with extra fields here: leave out `--as-uid` and the headers `Impersonate-…`"
                        .to_owned(),
                ));
            }
        }
    }
    if asked.user.is_none() && !asked.groups.is_empty() {
        return Err(Refusal::Malformed("a group to act as goes with a user to act as: add `--as`"));
    }
    Ok(asked)
}

/// The value of a header that carries this name unchanged; none when there is none: a reader would cut it, or take it for something else.
fn value(prefix: &str, name: &str) -> Result<HeaderValue, Refusal> {
    let is_odd = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.trim() != name
        || name
            .chars()
            .any(|character| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}'));
    let value = HeaderValue::from_maybe_shared(format!("{prefix}{name}"));
    match value {
        Ok(value) if !is_odd => Ok(value),
        _ => Err(Refusal::Forbidden(format!(
            "the name `{}` cannot be told to a cluster: rename the user, group or role",
            name.chars().take(100).collect::<String>().escape_debug()
        ))),
    }
}

/// Whether what is granted in a namespace, or everywhere, is for a call.
fn covers(namespace: Option<&str>, call: &Call) -> bool {
    namespace.is_none_or(|namespace| call.is_self_review() || (call.is_resource && call.namespace == namespace))
}

/// Names that somebody asked to act as, for people to read.
fn shown(user: &str, groups: &[String]) -> String {
    let short = |name: &str| name.chars().take(100).collect::<String>().escape_debug().to_string();
    let groups = groups.iter().take(5).map(|group| format!("`{}`", short(group))).collect::<Vec<_>>().join(", ");
    let of = if groups.is_empty() { String::new() } else { format!(" in {groups}") };
    format!("`{}`{of}", short(user))
}

/// The groups of the roles that hold for a call. None at all: no grant covers it.
fn roles(admission: &Admission, call: &Call, known: &dyn Roles) -> Result<Vec<String>, Refusal> {
    let held = admission.grants.iter().filter(|grant| covers(grant.namespace.as_deref(), call));
    let (mut groups, mut unknown) = (Vec::new(), None);
    for granted in held {
        match known.group(granted) {
            Ok(group) => groups.push(group),
            Err(refusal) => unknown = Some(refusal),
        }
    }
    groups.sort_unstable();
    groups.dedup();
    if !groups.is_empty() || (call.is_discovery() && !admission.grants.is_empty()) {
        return Ok(groups);
    }
    if let Some(refusal) = unknown {
        return Err(refusal);
    }
    let mut namespaces: Vec<&str> = admission.grants.iter().filter_map(|grant| grant.namespace.as_deref()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    Err(Refusal::Forbidden(if namespaces.is_empty() {
        "nothing is granted to you in this cluster".to_owned()
    } else {
        format!("your grants are for the namespace {}: name one with `-n`", namespaces.join(", "))
    }))
}

impl Identity {
    /// Decides as whom a call goes on, or why it does not.
    pub fn decide(admission: &Admission, call: &Call, client: &HeaderMap, known: &dyn Roles) -> Result<Self, Refusal> {
        let roles = roles(admission, call, known)?;
        let asked = asked(client)?;
        if let Some(user) = asked.user {
            let lends = |lent: &&Lent| covers(lent.namespace.as_ref().map(Slug::as_str), call) || call.is_discovery();
            let mut here = admission.act_as.iter().filter(lends);
            if !here.any(|lent| lent.act_as.lends(&user, &asked.groups)) {
                return Err(Refusal::Forbidden(format!(
                    "no grant lets you act as {} here",
                    shown(&user, &asked.groups)
                )));
            }
            // The other's own grants are not known here: what the roles of this one allow is not lent to it.
            return Ok(Self { is_another: true, ..Self::new(&user, &asked.groups, &[])? });
        }
        Self::new(&admission.user, &admission.groups, &roles)
    }

    fn new(user: &str, groups: &[String], roles: &[String]) -> Result<Self, Refusal> {
        if groups.len() + roles.len() > GROUPS_MAX {
            return Err(Refusal::Forbidden(format!("you are in more than {GROUPS_MAX} groups")));
        }
        let groups = groups.iter().map(|group| value(PREFIX, group));
        let roles = roles.iter().map(|role| value(ROLE_PREFIX, role));
        let groups = groups.chain(roles).collect::<Result<_, _>>()?;
        Ok(Self { user: value(PREFIX, user)?, groups, is_another: false })
    }

    /// The user, as the cluster sees it.
    pub fn user(&self) -> &HeaderValue {
        &self.user
    }

    /// Whether it is not the one who asks, but somebody as whom they may act.
    pub fn is_another(&self) -> bool {
        self.is_another
    }

    /// The groups, as the cluster sees them.
    pub fn groups(&self) -> &[HeaderValue] {
        &self.groups
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::super::{Granted, OneGroup, request, test_admission as admission, test_lent as lent};
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    fn decide(admission: &Admission, request: &str, client: &[(&str, &str)]) -> Result<(String, Vec<String>), Refusal> {
        let (method, path) = request.split_once(' ').unwrap();
        let call = request::resolve(&method.parse::<Method>().unwrap(), path, None)?;
        let identity = Identity::decide(admission, &call, &headers(client), &OneGroup)?;
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        Ok((text(identity.user()), identity.groups().iter().map(text).collect()))
    }

    #[test]
    fn attack_47_every_name_gets_a_prefix_and_no_group_of_a_user_is_a_role_or_the_systems() {
        let mut admission = admission(&[("view", "")]);
        admission.groups.push("-role:admin".to_owned());
        admission.groups.push("role:admin".to_owned());
        let (user, groups) = decide(&admission, "GET /api/v1/secrets", &[]).unwrap();
        assert_eq!(user, "cairn:alice@example.com");
        assert_eq!(
            groups,
            ["cairn:dev", "cairn:system:masters", "cairn:-role:admin", "cairn:role:admin", "cairn-role:view"]
        );
        assert!(
            !PREFIX.starts_with(ROLE_PREFIX) && !ROLE_PREFIX.starts_with(PREFIX),
            "neither can be taken for the other"
        );
    }

    #[test]
    fn a_grant_for_a_namespace_reaches_that_namespace_and_the_way_there() {
        let both = admission(&[("edit", "a"), ("view", "b"), ("edit", "b")]);
        let roles = |request: &str| {
            decide(&both, request, &[]).map(|(_, groups)| groups[2..].join(" ").replace("cairn-role:", "")).ok()
        };
        for (request, expect) in [
            ("GET /api/v1/namespaces/a/pods", Some("edit")),
            ("POST /api/v1/namespaces/b/pods/x/exec", Some("edit view")),
            ("GET /api/v1/watch/namespaces/a/pods", Some("edit")),
            ("GET /api/v1/namespaces/a", Some("edit")),
            ("GET /api/v1/namespaces/c/pods", None),
            ("GET /api/v1/namespaces", None),
            ("GET /api/v1/pods", None),
            ("GET /api/v1/nodes/a", None),
            ("GET /api/v1/nodes/a/proxy/namespaces/a", None),
            ("GET /apis/rbac.authorization.k8s.io/v1/clusterroles", None),
            ("GET /api", Some("")),
            ("GET /apis/apps/v1", Some("")),
            ("GET /openapi/v3/apis/apps/v1", Some("")),
            ("GET /version", Some("")),
            ("GET /metrics", None),
            ("GET /logs/a", None),
            ("GET /", None),
            ("POST /api", None),
            ("GET /apis/apps/v1/namespaces/A/deployments", None),
            ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Some("edit view")),
            ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", Some("edit view")),
            ("POST /apis/authentication.k8s.io/v1/tokenreviews", None),
            ("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", None),
        ] {
            assert_eq!(roles(request).as_deref(), expect, "{request}");
        }
        let whole = admission(&[("view", ""), ("edit", "a")]);
        let roles = |request: &str| decide(&whole, request, &[]).unwrap().1[2..].join(" ");
        assert_eq!(roles("GET /api/v1/namespaces/a/pods"), "cairn-role:edit cairn-role:view");
        assert_eq!(roles("GET /api/v1/namespaces/b/pods"), "cairn-role:view");
        assert_eq!(roles("GET /metrics"), "cairn-role:view");
        for request in ["GET /api/v1/pods", "GET /api", "GET /version"] {
            assert!(decide(&admission(&[]), request, &[]).is_err(), "nothing is granted: {request}");
        }
    }

    #[test]
    fn attack_48_who_asks_to_be_another_is_that_one_where_a_grant_says_so_and_refused_otherwise() {
        let admission = admission(&[("view", "")]);
        let ask = |client: &[(&str, &str)]| decide(&admission, "GET /api/v1/pods", client);
        assert_eq!(ask(&[("impersonate-user", "bob")]).unwrap(), ("cairn:bob".to_owned(), vec![]));
        let (user, groups) = ask(&[("Impersonate-User", "bob"), ("Impersonate-Group", "ops")]).unwrap();
        assert_eq!((user.as_str(), groups), ("cairn:bob", vec!["cairn:ops".to_owned()]));
        for client in [
            &[("impersonate-group", "system:masters")][..],
            &[("impersonate-group", "ops")],
            &[("impersonate-user", "bob"), ("impersonate-group", "system:masters")],
            &[("impersonate-user", "bob"), ("impersonate-group", "ops"), ("impersonate-group", "dev")],
            &[("impersonate-user", "bob"), ("impersonate-user", "bob")],
            &[("impersonate-user", "system:admin")],
            &[("impersonate-user", "cairn:bob")],
            &[("impersonate-user", "Bob")],
            &[("impersonate-user", "bob ")],
            &[("impersonate-user", "")],
            &[("impersonate-user", "alice@example.com")],
            &[("impersonate-user", "bob"), ("impersonate-uid", "7")],
            &[("impersonate-uid", "7")],
            &[("impersonate-extra-scopes", "all")],
            &[("IMPERSONATE-EXTRA-a%2Fb", "x")],
            &[("impersonate_user", "bob")],
            &[("impersonate_group", "system:masters")],
            &[("impersonate.group", "system:masters")],
            &[("impersonate", "bob")],
            &[("impersonate-user", "b\u{f6}b")],
        ] {
            assert!(ask(client).is_err(), "{client:?}");
        }
    }

    /// Namespaces `a` and `b` have places, and no other.
    struct Places;

    impl Roles for Places {
        fn group(&self, granted: &Granted) -> Result<String, Refusal> {
            match granted.namespace.as_deref() {
                None => Ok(granted.role.clone()),
                Some("a") => Ok(format!("{}@1", granted.role)),
                Some("b") => Ok(format!("{}@2", granted.role)),
                Some(_) => Err(Refusal::Forbidden("not bound".to_owned())),
            }
        }
    }

    #[test]
    fn where_a_namespace_has_a_group_of_its_own_a_request_there_has_that_one_and_no_other() {
        let admission = admission(&[("view", "a"), ("view", "b"), ("view", "c")]);
        let groups = |request: &str| {
            let (method, path) = request.split_once(' ').unwrap();
            let call = request::resolve(&method.parse().unwrap(), path, None).unwrap();
            let identity = Identity::decide(&admission, &call, &HeaderMap::new(), &Places)?;
            let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
            Ok::<_, Refusal>(identity.groups()[2..].iter().map(text).collect::<Vec<_>>())
        };
        assert_eq!(groups("GET /api/v1/namespaces/a/pods").unwrap(), ["cairn-role:view@1"]);
        assert_eq!(groups("GET /api/v1/namespaces/b/pods").unwrap(), ["cairn-role:view@2"]);
        assert_eq!(groups("GET /api/v1/namespaces/c/pods"), Err(Refusal::Forbidden("not bound".to_owned())));
        assert_eq!(groups("GET /api").unwrap(), Vec::<String>::new());
        // So the cluster answers for each namespace what is so there.
        let reviewed = groups("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews").unwrap();
        assert_eq!(reviewed, ["cairn-role:view@1", "cairn-role:view@2"]);
    }

    #[test]
    fn attack_48_a_name_is_lent_where_its_grant_is_and_never_mixed_with_anothers() {
        let mut admission = admission(&[("view", "a"), ("view", "b")]);
        admission.act_as = vec![lent("a", "bob", "ops"), lent("b", "eve", "dev")];
        let ask = |request: &str, user: &str, group: &str| {
            let group = ("impersonate-group", group);
            let client = [("impersonate-user", user), group];
            decide(&admission, request, if group.1.is_empty() { &client[..1] } else { &client })
        };
        let (a, b) = ("GET /api/v1/namespaces/a/pods", "GET /api/v1/namespaces/b/pods");
        assert!(ask(a, "bob", "ops").is_ok() && ask(a, "bob", "").is_ok() && ask(b, "eve", "dev").is_ok());
        for (request, user, group) in [(b, "bob", ""), (a, "eve", ""), (a, "bob", "dev"), (b, "eve", "ops")] {
            let Err(Refusal::Forbidden(why)) = ask(request, user, group) else { panic!("{request} {user} {group}") };
            assert!(why.contains(user) && why.contains(group), "{why}");
        }
        // What `kubectl --as` reads to find its way, and what the other may do.
        assert_eq!(ask("GET /api", "eve", "").unwrap(), ("cairn:eve".to_owned(), vec![]));
        assert!(ask("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "bob", "ops").is_ok());
        assert!(ask("GET /api/v1/pods", "bob", "").is_err() && ask("GET /api", "root", "").is_err());
    }

    #[test]
    fn a_name_that_a_reader_would_change_is_told_to_no_cluster() {
        for odd in ["", " a", "a ", "a\t", "a\r\nb", "a\0", "\u{a0}", "a\u{2028}", "a\u{85}b", &"a".repeat(600)] {
            for place in 0..3 {
                let mut admission = admission(&[("view", "")]);
                match place {
                    0 => admission.user = odd.to_owned(),
                    1 => admission.groups.push(odd.to_owned()),
                    _ => admission.grants[0].role = odd.to_owned(),
                }
                assert!(decide(&admission, "GET /api/v1/pods", &[]).is_err(), "{odd:?} {place}");
            }
        }
        let mut admission = admission(&[("view", "")]);
        admission.user = "zoë 山".to_owned();
        assert_eq!(decide(&admission, "GET /api/v1/pods", &[]).unwrap().0, "cairn:zoë 山");
        admission.groups = vec!["g".to_owned(); GROUPS_MAX];
        assert!(decide(&admission, "GET /api/v1/pods", &[]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_anybody_is_called_and_asks_for_the_cluster_hears_only_prefixed_names(
            user in "\\PC{1,12}|system:[a-z]{1,5}",
            groups in prop::collection::vec("\\PC{1,12}|system:masters|cairn-role:admin|-role:admin", 0..4),
            role in "\\PC{1,8}",
            wanted in prop::option::of("bob|ops|[ -~]{1,10}"),
        ) {
            let mut admission = admission(&[(&role, "")]);
            (admission.user, admission.groups) = (user, groups);
            let client = wanted.as_deref().map(|wanted| ("impersonate-user", wanted));
            if let Ok((user, groups)) = decide(&admission, "GET /api/v1/pods", client.as_slice()) {
                prop_assert!(user.starts_with(PREFIX));
                let (roles, others): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.starts_with(ROLE_PREFIX));
                prop_assert!(others.iter().all(|group| group.starts_with(PREFIX)));
                let expect = if wanted.is_some() { vec![] } else { vec![format!("{ROLE_PREFIX}{role}")] };
                prop_assert_eq!(roles, expect.iter().collect::<Vec<_>>());
            }
        }
    }
}
