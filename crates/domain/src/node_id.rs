//! Names in the asset graph.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Limits};

fn lower_dotted(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_lowercase())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
}

/// A node's type with its provider's prefix, e.g. `aws.ec2.instance`: at most 100 bytes of dot-separated lower snake case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NodeType(String);

/// An edge's type, e.g. `attached_to`: at most 64 bytes of lower snake case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EdgeType(String);

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text!(NodeType);
text!(EdgeType);

impl FromStr for NodeType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > 100 || !lower_dotted(text) {
            return Err(Error::invalid("type", "a node type is dotted lower case such as `aws.ec2.instance`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for EdgeType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > 64 || text.contains('.') || !lower_dotted(text) {
            return Err(Error::invalid("type", "an edge type is lower snake case such as `attached_to`"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// `<provider>:<region>:<type>:<resource-id>`, e.g. `aws:us-east-1:aws.ec2.instance:i-0abc123`.
///
/// The provider is 1 to 32 of `a-z`, `0-9`, `-`, `_`; the region 1 to 64 printable ASCII characters without `:` (`global` where there is
/// none); the resource id is what is left, at least one character, may hold `:`, and holds no control character. At most
/// [`Limits::NODE_ID_BYTES`] bytes together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    text: String,
    provider_end: usize,
    region_end: usize,
    type_end: usize,
}

impl NodeId {
    /// Joins the parts, if they are valid.
    pub fn new(provider: &str, region: &str, node_type: &str, resource: &str) -> Result<Self, Error> {
        format!("{provider}:{region}:{node_type}:{resource}").parse()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The source that it was found by, e.g. `aws`.
    pub fn provider(&self) -> &str {
        self.part(0, self.provider_end)
    }

    /// The region, site or `global`.
    pub fn region(&self) -> &str {
        self.part(self.provider_end + 1, self.region_end)
    }

    /// The type, e.g. `aws.ec2.instance`.
    pub fn node_type(&self) -> &str {
        self.part(self.region_end + 1, self.type_end)
    }

    /// The provider's own id of the resource.
    pub fn resource(&self) -> &str {
        self.part(self.type_end + 1, self.text.len())
    }
}

impl FromStr for NodeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            |why: &str| Error::invalid("id", format!("a node id is `<provider>:<region>:<type>:<resource-id>`: {why}"));
        if text.len() > Limits::NODE_ID_BYTES {
            return Err(wrong("it is longer than 1,024 bytes"));
        }
        let mut parts = text.splitn(4, ':');
        let (Some(provider), Some(region), Some(node_type), Some(resource)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("it has fewer than four parts"));
        };
        let provider_ok = (1..=32).contains(&provider.len())
            && provider.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !provider_ok {
            return Err(wrong("the provider is 1 to 32 of a-z, 0-9, - and _"));
        }
        if !(1..=64).contains(&region.len()) || !region.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("the region is 1 to 64 printable characters, `global` where there is none"));
        }
        if node_type.parse::<NodeType>().is_err() {
            return Err(wrong("the type is dotted lower case such as `aws.ec2.instance`"));
        }
        if resource.is_empty() || resource.chars().any(char::is_control) {
            return Err(wrong("the resource id is at least one printable character"));
        }
        let provider_end = provider.len();
        let region_end = provider_end + 1 + region.len();
        let type_end = region_end + 1 + node_type.len();
        Ok(Self { text: text.to_owned(), provider_end, region_end, type_end })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_come_back() {
        let id: NodeId = "aws:global:aws.iam.role:arn:aws:iam::123456789012:role/web".parse().unwrap();
        assert_eq!(
            (id.provider(), id.region(), id.node_type(), id.resource()),
            ("aws", "global", "aws.iam.role", "arn:aws:iam::123456789012:role/web")
        );
    }

    #[test]
    fn malformed_ids_are_refused_with_what_to_change() {
        for (bad, why) in [
            ("", "fewer than four"),
            ("aws:us-east-1:aws.ec2.instance", "fewer than four"),
            ("AWS:r:aws.x:1", "provider"),
            ("aws::aws.x:1", "region"),
            ("aws:r:Aws:1", "type"),
            ("aws:r:aws.x:", "resource"),
            ("aws:r:aws.x:a\nb", "resource"),
        ] {
            let message = bad.parse::<NodeId>().unwrap_err().to_string();
            assert!(message.contains(why), "{bad:?}: {message}");
        }
        assert!(format!("aws:r:aws.x:{}", "a".repeat(1_024)).parse::<NodeId>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).{0,80}") {
            if let Ok(id) = text.parse::<NodeId>() {
                let again = NodeId::new(id.provider(), id.region(), id.node_type(), id.resource());
                prop_assert_eq!(again.unwrap(), id);
            }
        }
    }
}
