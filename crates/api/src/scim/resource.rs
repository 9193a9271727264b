//! SCIM's users and groups: from JSON and to JSON.

use domain::{DisplayName, Email, UserId};
use serde_json::{Map, Value, json};
use store::{NewScimGroup, NewScimUser, ScimGroupRow, ScimUserRow};

use super::schema::{GROUP, USER};
use super::{Refusal, refusal};
use crate::state::ApiState;

const TEXT_BYTES_MAX: usize = 256;
const DOCUMENT_BYTES_MAX: usize = 32 * 1_024;
/// What of a user stands elsewhere, is ours, or (a password) is not kept at all.
const NOT_KEPT: [&str; 8] = ["schemas", "id", "meta", "groups", "userName", "externalId", "active", "password"];

/// The weak entity tag of a version.
pub(super) fn version(version: i64) -> String {
    format!("W/\"{version}\"")
}

fn text(body: &Value, name: &str) -> Result<Option<String>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()).filter(|text| !text.is_empty()))
        }
        Some(_) => Err(refusal("invalidValue", format!("`{name}` is a text of at most {TEXT_BYTES_MAX} bytes"))),
    }
}

fn required(body: &Value, name: &str) -> Result<String, Refusal> {
    text(body, name)?.ok_or_else(|| refusal("invalidValue", format!("`{name}` is missing")))
}

/// The login name here: the primary address, else the first, else the `userName` where that is one.
fn email(body: &Value, user_name: &str) -> Result<Email, Refusal> {
    let emails = body.get("emails").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let primary = emails.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
    let value = primary.or(emails.first()).and_then(|email| email.get("value")).and_then(Value::as_str);
    value
        .unwrap_or(user_name)
        .parse()
        .map_err(|_| refusal("invalidValue", "a user needs an address: a primary one of `emails`, or `userName`"))
}

fn name(body: &Value, user_name: &str) -> String {
    let part = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().trim();
    let both = format!("{} {}", part("/name/givenName"), part("/name/familyName"));
    let names = [part("/displayName"), part("/name/formatted"), both.trim(), user_name];
    let named = names.into_iter().find_map(|name| name.parse::<DisplayName>().ok());
    named.map_or_else(|| "(no name)".to_owned(), |name| name.to_string())
}

/// A user as a provider sent it.
pub(super) fn parse_user(body: &Value) -> Result<NewScimUser, Refusal> {
    let user_name = required(body, "userName")?;
    let active = match body.get("active") {
        None | Some(Value::Null | Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        // Entra ID writes booleans as texts.
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(refusal("invalidValue", "`active` is true or false")),
    };
    let members = body.as_object().ok_or_else(|| refusal("invalidSyntax", "a user is an object"))?;
    let document: Map<String, Value> = members
        .iter()
        .filter(|(name, value)| !NOT_KEPT.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let document = Value::Object(document);
    if document.to_string().len() > DOCUMENT_BYTES_MAX {
        return Err(refusal("tooMany", format!("a user is larger than {DOCUMENT_BYTES_MAX} bytes")));
    }
    Ok(NewScimUser {
        email: email(body, &user_name)?,
        name: name(body, &user_name),
        external_id: text(body, "externalId")?,
        active,
        document,
        user_name,
    })
}

fn meta(state: &ApiState, kind: &str, id: &str, of: (domain::Timestamp, domain::Timestamp, i64)) -> Value {
    json!({
        "resourceType": kind,
        "created": of.0,
        "lastModified": of.1,
        "location": format!("{}/scim/v2/{kind}s/{id}", state.settings.public_url),
        "version": version(of.2),
    })
}

/// A user as it is shown.
pub(super) fn user(state: &ApiState, row: &ScimUserRow) -> Value {
    let id = row.user.to_string();
    let mut out = row.document.as_object().cloned().unwrap_or_default();
    let groups: Vec<Value> =
        row.groups.iter().map(|(id, name)| json!({"value": id, "display": name, "type": "direct"})).collect();
    let own = [
        ("schemas", json!([USER])),
        ("id", json!(id)),
        ("userName", json!(row.user_name)),
        ("active", json!(row.active)),
        ("groups", json!(groups)),
        ("meta", meta(state, "User", &id, (row.created_at, row.changed_at, row.version))),
    ];
    out.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    if let Some(external) = &row.external_id {
        out.insert("externalId".to_owned(), json!(external));
    }
    Value::Object(out)
}

/// A group as a provider sent it.
pub(super) fn parse_group(body: &Value) -> Result<NewScimGroup, Refusal> {
    let members = match body.get("members") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(members)) => members,
        Some(_) => return Err(refusal("invalidValue", "`members` is a list")),
    };
    let member = |member: &Value| {
        let value = member.get("value").and_then(Value::as_str).and_then(|value| value.parse::<UserId>().ok());
        value.ok_or_else(|| {
            refusal("invalidValue", "a member is `{\"value\": ID}` of a user; groups in groups are not supported")
        })
    };
    Ok(NewScimGroup {
        display_name: required(body, "displayName")?,
        external_id: text(body, "externalId")?,
        members: members.iter().map(member).collect::<Result<_, _>>()?,
    })
}

/// A group as it is shown.
pub(super) fn group(state: &ApiState, row: &ScimGroupRow) -> Value {
    let id = row.id.to_string();
    let member = |user: &UserId| {
        let location = format!("{}/scim/v2/Users/{user}", state.settings.public_url);
        json!({"value": user, "$ref": location})
    };
    let members: Vec<Value> = row.members.iter().map(member).collect();
    let mut out = json!({
        "schemas": [GROUP],
        "id": id,
        "displayName": row.display_name,
        "members": members,
        "meta": meta(state, "Group", &id, (row.created_at, row.changed_at, row.version)),
    });
    if let (Some(external), Some(out)) = (&row.external_id, out.as_object_mut()) {
        out.insert("externalId".to_owned(), json!(external));
    }
    out
}
