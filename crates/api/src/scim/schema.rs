//! What this server says of its SCIM (RFC 7643, sections 5 to 7): no more than it does.

use serde_json::{Value, json};

pub(super) const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
pub(super) const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

pub(super) fn config(public_url: &str) -> Value {
    let no = json!({"supported": false});
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": super::COUNT_MAX},
        "changePassword": no,
        "sort": no,
        "etag": {"supported": true},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token that `cairn providers scim-token` shows once.",
            "primary": true,
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{public_url}/scim/v2/ServiceProviderConfig"),
        },
    })
}

pub(super) fn resource_types(public_url: &str) -> Vec<Value> {
    let kind = |name: &str, schema: &str| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name,
            "name": name,
            "description": format!("{name}s that this provider provisioned"),
            "endpoint": format!("/{name}s"),
            "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": format!("{public_url}/scim/v2/ResourceTypes/{name}")},
        })
    };
    vec![kind("User", USER), kind("Group", GROUP)]
}

struct Attribute<'a> {
    name: &'a str,
    kind: &'a str,
    about: &'a str,
    many: bool,
    required: bool,
    writable: bool,
    unique: bool,
    subs: Vec<Value>,
}

impl Attribute<'_> {
    fn document(self) -> Value {
        let mut out = json!({
            "name": self.name,
            "type": self.kind,
            "description": self.about,
            "multiValued": self.many,
            "required": self.required,
            "mutability": if self.writable { "readWrite" } else { "readOnly" },
            "returned": "default",
        });
        if let Some(members) = out.as_object_mut() {
            if matches!(self.kind, "string" | "reference") {
                members.insert("caseExact".to_owned(), json!(false));
                members.insert("uniqueness".to_owned(), json!(if self.unique { "server" } else { "none" }));
            }
            if !self.subs.is_empty() {
                members.insert("subAttributes".to_owned(), json!(self.subs));
            }
        }
        out
    }
}

fn attribute<'a>(name: &'a str, kind: &'a str, about: &'a str) -> Attribute<'a> {
    Attribute { name, kind, about, many: false, required: false, writable: true, unique: false, subs: Vec::new() }
}

fn text(name: &str, about: &str) -> Value {
    attribute(name, "string", about).document()
}

pub(super) fn schemas(public_url: &str) -> Vec<Value> {
    let schema = |id: &str, name: &str, attributes: Vec<Value>| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": id,
            "name": name,
            "description": format!("A {} that a provider provisions", name.to_lowercase()),
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": format!("{public_url}/scim/v2/Schemas/{id}")},
        })
    };
    let fixed = |name: &str, about: &str| Attribute { writable: false, ..attribute(name, "string", about) }.document();
    // RFC 7643, section 4.2: who is in a group is named as a whole.
    let reference = {
        let mut reference = attribute("$ref", "reference", "The user's location").document();
        if let Some(members) = reference.as_object_mut() {
            members.insert("referenceTypes".to_owned(), json!(["User"]));
            members.insert("mutability".to_owned(), json!("immutable"));
        }
        reference
    };
    let user = vec![
        Attribute { required: true, unique: true, ..attribute("userName", "string", "The login name at the provider") }
            .document(),
        Attribute {
            subs: vec![
                text("formatted", "The whole name"),
                text("familyName", "The family name"),
                text("givenName", "The given name"),
            ],
            ..attribute("name", "complex", "The parts of the name")
        }
        .document(),
        text("displayName", "The name for people"),
        Attribute {
            required: true,
            ..attribute("active", "boolean", "Whether the user may sign in; false ends every session at once")
        }
        .document(),
        Attribute {
            many: true,
            required: true,
            subs: vec![
                Attribute {
                    required: true,
                    ..attribute("value", "string", "The address; the primary one is the login name here")
                }
                .document(),
                text("type", "`work` or `home`"),
                attribute("primary", "boolean", "Whether this is the address to use").document(),
            ],
            ..attribute("emails", "complex", "Addresses")
        }
        .document(),
        Attribute {
            many: true,
            writable: false,
            subs: vec![
                fixed("value", "The group's id"),
                fixed("display", "The group's name"),
                fixed("type", "`direct`"),
            ],
            ..attribute("groups", "complex", "The groups that the user is in; changed through the groups")
        }
        .document(),
    ];
    let group = vec![
        Attribute { required: true, unique: true, ..attribute("displayName", "string", "The group's name") }.document(),
        Attribute {
            many: true,
            subs: vec![text("value", "The user's id"), reference],
            ..attribute("members", "complex", "Who is in the group")
        }
        .document(),
    ];
    vec![schema(USER, "User", user), schema(GROUP, "Group", group)]
}
