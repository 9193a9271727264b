//! SCIM PATCH (RFC 7644, section 3.5.2) on a resource's JSON, with what Okta and Entra ID send: operations in any case, paths with value filters,
//! objects without a path whose keys are paths, and removal by a list of values.

use serde_json::{Map, Value, json};

use super::{Refusal, filter, refusal};

const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const OPERATIONS_MAX: usize = 1_000;
/// Attributes under the spelling that a resource has; matching is without case.
const ATTRIBUTES: [&str; 11] =
    ["userName", "externalId", "active", "displayName", "name", "emails", "members", "id", "meta", "groups", "schemas"];
/// What may be replaced and never removed: least of all `active`, whose absence would mean that a user may sign in.
const REQUIRED: [&str; 2] = ["userName", "active"];
const READ_ONLY: [&str; 4] = ["id", "meta", "groups", "schemas"];

/// `attribute`, `attribute.sub`, `attribute[filter]` or `attribute[filter].sub`.
struct Target {
    attribute: String,
    filter: Option<Vec<(String, Value)>>,
    sub: Option<String>,
}

fn bad_path() -> Refusal {
    refusal("invalidPath", "a path is `attribute`, `attribute.sub` or `attribute[sub eq value].sub`")
}

fn name(text: &str) -> Result<&str, Refusal> {
    let sound = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$'));
    if sound { Ok(text) } else { Err(bad_path()) }
}

fn target(path: &str) -> Result<Target, Refusal> {
    let path = filter::core(path);
    let (attribute, filter, sub) = match path.split_once('[') {
        Some((attribute, rest)) => {
            let (inside, after) = rest.rsplit_once(']').ok_or_else(bad_path)?;
            let sub = match after {
                "" => None,
                after => Some(after.strip_prefix('.').ok_or_else(bad_path)?),
            };
            (attribute, Some(filter::parse(inside)?), sub)
        }
        None => match path.split_once('.') {
            Some((attribute, sub)) => (attribute, None, Some(sub)),
            None => (path, None, None),
        },
    };
    let attribute = name(attribute)?;
    let known = ATTRIBUTES.iter().find(|known| known.eq_ignore_ascii_case(attribute));
    let attribute = known.map_or_else(|| attribute.to_owned(), |known| (*known).to_owned());
    if READ_ONLY.contains(&attribute.as_str()) {
        return Err(refusal("mutability", format!("`{attribute}` cannot be changed")));
    }
    Ok(Target { attribute, filter, sub: sub.map(name).transpose()?.map(str::to_owned) })
}

/// The key of an object that is spelled like this but for case.
fn key(object: &Map<String, Value>, name: &str) -> String {
    object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.to_owned())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.eq_ignore_ascii_case(b),
        // Entra ID writes booleans as texts.
        (Value::String(text), Value::Bool(flag)) | (Value::Bool(flag), Value::String(text)) => {
            text.eq_ignore_ascii_case(if *flag { "true" } else { "false" })
        }
        _ => a == b,
    }
}

fn matches(item: &Value, filter: &[(String, Value)]) -> bool {
    let Some(object) = item.as_object() else { return false };
    filter.iter().all(|(name, value)| object.get(&key(object, name)).is_some_and(|held| same(held, value)))
}

/// Whether two items of a list are one: by their `value`, where they have one.
fn twin(a: &Value, b: &Value) -> bool {
    match (a.get("value"), b.get("value")) {
        (Some(a), Some(b)) => same(a, b),
        _ => a == b,
    }
}

fn add_items(list: &mut Vec<Value>, value: Value) {
    let new = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    for item in new {
        match list.iter_mut().find(|held| twin(held, &item)) {
            Some(held) => merge(held, item),
            None => list.push(item),
        }
    }
}

fn merge(held: &mut Value, value: Value) {
    match (held, value) {
        (Value::Object(held), Value::Object(new)) => {
            for (name, value) in new {
                let name = key(held, &name);
                held.insert(name, value);
            }
        }
        (held, value) => *held = value,
    }
}

/// Sets or adds what a path names.
fn put(resource: &mut Map<String, Value>, target: &Target, value: Value, add: bool) -> Result<(), Refusal> {
    let attribute = key(resource, &target.attribute);
    match (&target.filter, &target.sub) {
        (None, None) => match (resource.get_mut(&attribute), value) {
            (Some(Value::Array(list)), value) if add => add_items(list, value),
            (Some(held @ Value::Object(_)), value @ Value::Object(_)) => merge(held, value),
            (_, value) => {
                resource.insert(attribute, value);
            }
        },
        (None, Some(sub)) => {
            let held = resource.entry(attribute).or_insert_with(|| json!({}));
            let object = held.as_object_mut().ok_or_else(|| refusal("invalidPath", "this attribute has no parts"))?;
            let sub = key(object, sub);
            object.insert(sub, value);
        }
        (Some(filter), sub) => {
            let list = resource.entry(attribute).or_insert_with(|| json!([]));
            let list = list.as_array_mut().ok_or_else(|| refusal("invalidPath", "this attribute is no list"))?;
            if !list.iter().any(|item| matches(item, filter)) {
                // Entra ID sets `emails[type eq "work"].value` of users who have none.
                let new: Map<String, Value> = filter.iter().cloned().collect();
                list.push(Value::Object(new));
            }
            for item in list.iter_mut().filter(|item| matches(item, filter)) {
                match (sub, item.as_object_mut()) {
                    (Some(sub), Some(object)) => {
                        let sub = key(object, sub);
                        object.insert(sub, value.clone());
                    }
                    _ => merge(item, value.clone()),
                }
            }
        }
    }
    Ok(())
}

fn remove(resource: &mut Map<String, Value>, target: &Target, value: Option<&Value>) {
    let attribute = key(resource, &target.attribute);
    match (resource.get_mut(&attribute), &target.filter, &target.sub) {
        (Some(Value::Array(list)), Some(filter), None) => list.retain(|item| !matches(item, filter)),
        (Some(Value::Array(list)), Some(filter), Some(sub)) => {
            for object in list.iter_mut().filter(|item| matches(item, filter)).filter_map(Value::as_object_mut) {
                let sub = key(object, sub);
                object.remove(&sub);
            }
        }
        // Only what is listed goes: a list without a filter means all of it, which nobody meant who sent values.
        (Some(Value::Array(list)), None, None) if value.is_some_and(|value| !value.is_null()) => {
            let gone = match value {
                Some(Value::Array(items)) => items.clone(),
                Some(one) => vec![one.clone()],
                None => Vec::new(),
            };
            list.retain(|item| !gone.iter().any(|gone| twin(item, gone)));
        }
        (Some(Value::Object(object)), None, Some(sub)) => {
            let sub = key(object, sub);
            object.remove(&sub);
        }
        (Some(_), None, None) => {
            resource.remove(&attribute);
        }
        _ => {}
    }
}

/// The resource after all operations, or nothing changed at all.
pub(super) fn apply(resource: Value, body: &Value) -> Result<Value, Refusal> {
    let Value::Object(mut resource) = resource else { return Err(refusal("invalidSyntax", "this is no object")) };
    let is_patch = body.get("schemas").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == PATCH));
    let operations = body.as_object().and_then(|body| body.get(&key(body, "Operations"))).and_then(Value::as_array);
    let (true, Some(operations)) = (is_patch, operations) else {
        return Err(refusal("invalidSyntax", format!("send `schemas` with `{PATCH}`, and `Operations`")));
    };
    if operations.is_empty() || operations.len() > OPERATIONS_MAX {
        return Err(refusal("invalidSyntax", format!("send 1 to {OPERATIONS_MAX} operations")));
    }
    for operation in operations {
        let text = |name: &str| operation.get(name).and_then(Value::as_str);
        let (op, path, value) =
            (text("op").unwrap_or_default().to_ascii_lowercase(), text("path"), operation.get("value"));
        match (op.as_str(), path, value) {
            ("add" | "replace", Some(path), Some(value)) => {
                put(&mut resource, &target(path)?, value.clone(), op == "add")?;
            }
            ("add" | "replace", None, Some(Value::Object(all))) => {
                for (path, value) in all {
                    // Okta sends the whole object, with what cannot be changed in it.
                    if !READ_ONLY.contains(&path.as_str()) {
                        put(&mut resource, &target(path)?, value.clone(), op == "add")?;
                    }
                }
            }
            ("remove", Some(path), value) => {
                let target = target(path)?;
                if REQUIRED.contains(&target.attribute.as_str()) {
                    return Err(refusal("mutability", format!("`{}` cannot be removed", target.attribute)));
                }
                remove(&mut resource, &target, value);
            }
            ("remove", None, _) => return Err(refusal("noTarget", "say with `path` what to remove")),
            ("add" | "replace", ..) => return Err(refusal("invalidValue", "say with `value` what to set")),
            _ => return Err(refusal("invalidSyntax", "`op` is add, replace or remove")),
        }
    }
    Ok(Value::Object(resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(resource: &Value, operations: &Value) -> Result<Value, Refusal> {
        apply(resource.clone(), &json!({"schemas": [PATCH], "Operations": operations}))
    }

    #[test]
    fn what_okta_and_entra_send_does_what_they_mean() {
        let user = json!({"userName": "a", "active": true, "emails": [{"type": "work", "value": "a@x.org"}], "name": {"givenName": "A"}});
        for (operations, expected) in [
            (json!([{"op": "replace", "value": {"active": false}}]), json!({"active": false})),
            (json!([{"op": "Replace", "path": "active", "value": "False"}]), json!({"active": "False"})),
            (
                json!([{"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "b@x.org"}]),
                json!({"emails": [{"type": "work", "value": "b@x.org"}]}),
            ),
            (
                json!([{"op": "Add", "path": "emails[type eq \"home\"].value", "value": "h@x.org"}]),
                json!({"emails": [{"type": "work", "value": "a@x.org"}, {"type": "home", "value": "h@x.org"}]}),
            ),
            (
                json!([{"op": "Add", "value": {"name.familyName": "B"}}]),
                json!({"name": {"givenName": "A", "familyName": "B"}}),
            ),
            (json!([{"op": "remove", "path": "name.givenName"}]), json!({"name": {}})),
            (json!([{"op": "replace", "path": "USERNAME", "value": "z"}]), json!({"userName": "z"})),
            (
                json!([{"op": "replace", "value": {"id": "x", "schemas": [], "displayName": "D"}}]),
                json!({"displayName": "D"}),
            ),
        ] {
            let mut wanted = user.clone();
            merge(&mut wanted, expected);
            assert_eq!(patched(&user, &operations).unwrap(), wanted, "{operations}");
        }
    }

    #[test]
    fn members_come_and_go_in_every_spelling() {
        let group = json!({"displayName": "g", "members": [{"value": "1"}, {"value": "2"}]});
        for (operations, expected) in [
            (
                json!([{"op": "add", "path": "members", "value": [{"value": "2", "display": "b"}, {"value": "3"}]}]),
                vec!["1", "2", "3"],
            ),
            (json!([{"op": "remove", "path": "members[value eq \"1\"]"}]), vec!["2"]),
            (json!([{"op": "Remove", "path": "members", "value": [{"value": "2"}]}]), vec!["1"]),
            (json!([{"op": "remove", "path": "members"}]), vec![]),
            (json!([{"op": "replace", "path": "members", "value": [{"value": "9"}]}]), vec!["9"]),
            (
                json!([{"op": "remove", "path": "members[value eq \"1\"]"}, {"op": "add", "path": "members", "value": {"value": "7"}}]),
                vec!["2", "7"],
            ),
            (json!([{"op": "remove", "path": "members[value eq \"8\"]"}]), vec!["1", "2"]),
        ] {
            let after = patched(&group, &operations).unwrap();
            let members = after["members"].as_array().cloned().unwrap_or_default();
            let members: Vec<&str> = members.iter().map(|member| member["value"].as_str().unwrap()).collect();
            assert_eq!(members, expected, "{operations}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let user = json!({"userName": "a"});
        for (operations, kind) in [
            (json!([]), "invalidSyntax"),
            (json!([{"op": "move", "path": "a", "value": 1}]), "invalidSyntax"),
            (json!([{"op": "remove"}]), "noTarget"),
            (json!([{"op": "remove", "path": "Active"}]), "mutability"),
            (json!([{"op": "add", "path": "userName"}]), "invalidValue"),
            (json!([{"op": "add", "path": "a b", "value": 1}]), "invalidPath"),
            (json!([{"op": "add", "path": "emails[type", "value": 1}]), "invalidPath"),
            (json!([{"op": "add", "path": "emails[type co \"x\"].value", "value": 1}]), "invalidFilter"),
            (json!([{"op": "replace", "path": "id", "value": "x"}]), "mutability"),
            (json!([{"op": "replace", "path": "groups", "value": []}]), "mutability"),
        ] {
            assert_eq!(patched(&user, &operations).unwrap_err().kind, Some(kind), "{operations}");
        }
        assert!(apply(user, &json!({"Operations": [{"op": "add", "path": "active", "value": true}]})).is_err());
    }
}
