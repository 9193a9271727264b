//! From a plugin's messages to observations: what is malformed, too large, or of somebody else is refused.

use domain::{Coverage, EdgeObservation, EdgeType, Limits, NodeId, NodeObservation, Page, Properties, ScopeId, Tags};

use serde_json::Value;

use plugins::Removed;

use crate::manifest::Manifest;
use crate::proto;

/// Longest reason of a verdict, in characters.
const REASON_CHARS: usize = 500;

/// What is wrong with a message, told to who runs the job.
pub(crate) type Refused = String;

/// One line without control characters, cut.
pub(crate) fn clean(text: &str, chars: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars).collect::<String>().trim().to_owned()
}

/// Whether a value is nested at most `levels` deep.
fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_shallow(member, levels - 1)),
        _ => true,
    }
}

/// What a plugin may show: its own types, in scopes of its own source.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) manifest: &'a Manifest,
    /// See `Manifest::source`.
    pub(crate) source: String,
}

impl Bounds<'_> {
    /// The scope that a plugin's own name of it means.
    pub(crate) fn scope(&self, own: &str) -> Result<ScopeId, Refused> {
        let sound = (1..=64).contains(&own.len())
            && own.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b));
        if !sound {
            return Err(format!("`{}` is no scope: use 1 to 64 of a-z, 0-9, . _ - /", clean(own, 80)));
        }
        format!("{}{own}", self.prefix()).parse().map_err(|error: domain::Error| error.to_string())
    }

    /// What the names of all its scopes begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:{}:", self.manifest.name, self.source)
    }

    fn owns(&self, id: &NodeId) -> bool {
        id.provider() == self.manifest.name && self.manifest.node_types.iter().any(|own| own == id.node_type())
    }

    fn id(text: &str) -> Result<NodeId, Refused> {
        text.parse().map_err(|error: domain::Error| format!("`{}`: {error}", clean(text, 120)))
    }

    fn properties(json: &str, owner: &NodeId) -> Result<Properties, Refused> {
        if json.is_empty() {
            return Ok(Properties::new());
        }
        if json.len() > Limits::PROPERTIES_BYTES {
            return Err(format!("the properties of `{owner}` are larger than {} bytes", Limits::PROPERTIES_BYTES));
        }
        // serde_json itself refuses more than 128 levels.
        let properties: Properties = serde_json::from_str(json)
            .map_err(|error| format!("the properties of `{owner}` are no JSON object: {error}"))?;
        if !properties.values().all(|value| is_shallow(value, Limits::PROPERTIES_DEPTH - 1)) {
            let max = Limits::PROPERTIES_DEPTH;
            return Err(format!("the properties of `{owner}` are nested deeper than {max} levels"));
        }
        Ok(properties)
    }

    fn node(&self, node: proto::Node) -> Result<NodeObservation, Refused> {
        let id = Self::id(&node.id)?;
        if !self.owns(&id) {
            return Err(format!(
                "`{id}` is not its own: ids begin with `{}:` and types are those of the manifest",
                self.manifest.name
            ));
        }
        let properties = Self::properties(&node.properties_json, &id)?;
        let name = if node.name.is_empty() { id.resource().to_owned() } else { node.name };
        if name.len() > Limits::NODE_ID_BYTES || name.contains('\0') {
            return Err(format!("the name of `{id}` has at most {} bytes and no NUL character", Limits::NODE_ID_BYTES));
        }
        Ok(NodeObservation { id, name, properties, tags: node.tags.into_iter().collect::<Tags>() })
    }

    fn edge(&self, edge: proto::Edge) -> Result<EdgeObservation, Refused> {
        let (source, target) = (Self::id(&edge.source)?, Self::id(&edge.target)?);
        if !self.owns(&source) && !self.owns(&target) {
            return Err(format!("the edge from `{source}` to `{target}` has no end of its own"));
        }
        let edge_type: EdgeType = edge.r#type.parse().map_err(|error: domain::Error| error.to_string())?;
        let properties = Self::properties(&edge.properties_json, &source)?;
        Ok(EdgeObservation { source, target, edge_type, discriminator: edge.discriminator, properties })
    }

    /// What is gone, checked.
    pub(crate) fn gone(&self, gone: proto::Gone) -> Result<Removed, Refused> {
        if gone.nodes.len() + gone.edges.len() > Limits::PAGE_OBSERVATIONS {
            return Err(format!("it names more than {} nodes and edges as gone at once", Limits::PAGE_OBSERVATIONS));
        }
        let mut nodes = Vec::with_capacity(gone.nodes.len());
        for text in &gone.nodes {
            let id = Self::id(text)?;
            if !self.owns(&id) {
                return Err(format!("`{id}` is not its own, so it cannot say that it is gone"));
            }
            nodes.push(id);
        }
        let edges = gone.edges.into_iter().map(|edge| self.edge(edge)).collect::<Result<_, _>>()?;
        Ok(Removed { nodes, edges })
    }

    /// The page, checked.
    pub(crate) fn page(&self, page: proto::Page) -> Result<Page, Refused> {
        let scope = self.scope(&page.scope)?;
        if page.nodes.len() + page.edges.len() > Limits::PAGE_OBSERVATIONS {
            return Err(format!("a page has more than {} nodes and edges", Limits::PAGE_OBSERVATIONS));
        }
        let nodes = page.nodes.into_iter().map(|node| self.node(node)).collect::<Result<_, _>>()?;
        let edges = page.edges.into_iter().map(|edge| self.edge(edge)).collect::<Result<_, _>>()?;
        Ok(Page { scope, nodes, edges })
    }
}

/// What a plugin says of a scope.
pub(crate) fn coverage(verdict: i32, reason: &str) -> Result<Coverage, Refused> {
    let reason = clean(reason, REASON_CHARS);
    let verdict = proto::Verdict::try_from(verdict).unwrap_or_default();
    if reason.is_empty() && !matches!(verdict, proto::Verdict::Complete | proto::Verdict::Unspecified) {
        return Err("a verdict that is not COMPLETE needs a reason".to_owned());
    }
    match verdict {
        proto::Verdict::Complete => Ok(Coverage::Complete),
        proto::Verdict::Partial => Ok(Coverage::Partial { reason }),
        proto::Verdict::Denied => Ok(Coverage::Denied { reason }),
        proto::Verdict::Throttled => Ok(Coverage::Throttled { reason }),
        proto::Verdict::Failed => Ok(Coverage::Failed { reason }),
        proto::Verdict::Absent => Ok(Coverage::Absent { reason }),
        proto::Verdict::Unspecified => Err("a scope was ended without a verdict".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn manifest() -> Manifest {
        Manifest::read(
            "protocol = 1\nname = \"status\"\nversion = \"1\"\nabout = \"a\"\nexec = [\"p\"]\nnode_types = [\"status.service\"]\n",
        )
        .unwrap()
    }

    fn node(id: &str, properties: &str) -> proto::Node {
        proto::Node { id: id.to_owned(), properties_json: properties.to_owned(), ..Default::default() }
    }

    fn page(nodes: Vec<proto::Node>, edges: Vec<proto::Edge>) -> Result<Page, Refused> {
        let manifest = manifest();
        let bounds = Bounds { manifest: &manifest, source: "0123456789ab".to_owned() };
        bounds.page(proto::Page { scope: "services".to_owned(), nodes, edges })
    }

    #[test]
    fn a_plugin_shows_nothing_of_another_one() {
        let own = "status:global:status.service:api";
        let good = page(vec![node(own, "{\"up\": true}")], Vec::new()).unwrap();
        assert_eq!(good.scope.as_str(), "status:0123456789ab:services");
        assert_eq!(good.nodes[0].name, "api");
        for id in [
            "aws:us-east-1:aws.ec2.instance:i-1",
            "status:global:aws.ec2.instance:i-1",
            "aws:global:status.service:api",
            "status:global:status.other:api",
            "status",
            "",
        ] {
            assert!(page(vec![node(id, "")], Vec::new()).is_err(), "{id}");
        }
        let edge = |source: &str, target: &str| proto::Edge {
            source: source.to_owned(),
            target: target.to_owned(),
            r#type: "runs_on".to_owned(),
            ..Default::default()
        };
        let aws = "aws:us-east-1:aws.ec2.instance:i-1";
        assert!(page(Vec::new(), vec![edge(own, aws)]).is_ok());
        assert!(page(Vec::new(), vec![edge(aws, own)]).is_ok());
        assert!(page(Vec::new(), vec![edge(aws, aws)]).is_err());
    }

    #[test]
    fn attack_66_a_million_levels_of_json_and_other_odd_properties_are_refused_in_bounded_time() {
        for properties in
            ["[".repeat(200_000), format!("{{\"a\":{}", "[".repeat(200_000)), "[1]".to_owned(), "nul".to_owned()]
        {
            let error = page(vec![node("status:global:status.service:api", &properties)], Vec::new()).unwrap_err();
            assert!(error.contains("no JSON object"), "{error}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(Limits::PROPERTIES_BYTES));
        assert!(page(vec![node("status:global:status.service:api", &large)], Vec::new()).is_err());
    }

    #[test]
    fn a_scope_cannot_reach_out_of_its_source() {
        let manifest = manifest();
        let bounds = Bounds { manifest: &manifest, source: "0123456789ab".to_owned() };
        assert!(bounds.scope("services/eu-1").is_ok());
        for own in ["", "a:b", "a b", "A", "\u{e9}", &"a".repeat(65)] {
            assert!(bounds.scope(own).is_err(), "{own}");
        }
    }

    #[test]
    fn a_verdict_says_why() {
        assert_eq!(coverage(1, ""), Ok(Coverage::Complete));
        assert!(coverage(2, "").is_err() && coverage(0, "x").is_err() && coverage(99, "x").is_err());
        assert_eq!(coverage(3, "no\nway"), Ok(Coverage::Denied { reason: "no way".to_owned() }));
    }

    proptest! {
        /// Whatever bytes a plugin sends: they are no message, or one that is refused, or one whose parts are its own.
        #[test]
        fn no_bytes_make_the_reader_panic_or_pass_what_is_not_its_own(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = proto::FromPlugin::decode(&bytes[..])
                && let Some(proto::from_plugin::What::Page(page)) = message.what
            {
                let manifest = manifest();
                let bounds = Bounds { manifest: &manifest, source: "0123456789ab".to_owned() };
                if let Ok(page) = bounds.page(page) {
                    prop_assert!(page.scope.as_str().starts_with("status:0123456789ab:"));
                }
            }
        }

        #[test]
        fn no_text_in_a_page_makes_the_reader_panic(
            id in "(status:[a-z]{0,3}:status.service:.{0,9}|.{0,40})", json in "(\\{.{0,30}\\}|.{0,30})", scope in ".{0,20}",
        ) {
            let manifest = manifest();
            let bounds = Bounds { manifest: &manifest, source: "0123456789ab".to_owned() };
            let page = proto::Page { scope, nodes: vec![node(&id, &json)], edges: Vec::new() };
            if let Ok(page) = bounds.page(page) {
                prop_assert!(page.nodes.iter().all(|node| node.id.provider() == "status"));
                prop_assert!(page.scope.as_str().starts_with("status:0123456789ab:"));
            }
        }
    }
}
