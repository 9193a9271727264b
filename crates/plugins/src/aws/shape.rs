//! What becomes of properties that are text in disguise, secrets, or somebody else's list format.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::name::snake;
use super::path;
use super::reply::typed;

/// Applies one rule of an entry's `shape` to everything at `at`.
pub(crate) fn apply(item: &mut Value, at: &str, rule: &str) {
    let (holders, name) = path::holders(item, at);
    for holder in holders {
        let Some(value) = holder.remove(name) else { continue };
        let value = match rule {
            "policy" => policy(value),
            "json" => embedded(value),
            "kv" => key_values(value),
            "names" => names(value),
            "origin" => value.as_str().map_or(Value::Null, |text| Value::String(path::origin(text))),
            _ => continue,
        };
        holder.insert(name.to_owned(), value);
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        if byte == b'%' {
            let mut ahead = bytes.clone();
            if let (Some(high), Some(low)) = (hex(ahead.next()), hex(ahead.next())) {
                out.push(high << 4 | low);
                bytes = ahead;
                continue;
            }
        }
        out.push(byte);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// JSON in a text, with its keys in our spelling; what is no JSON stays.
fn embedded(value: Value) -> Value {
    fn keys(value: Value) -> Value {
        match value {
            Value::Object(fields) => fields.into_iter().map(|(key, value)| (snake(&key), keys(value))).collect(),
            Value::Array(items) => items.into_iter().map(keys).collect(),
            other => other,
        }
    }
    match value.as_str().map(serde_json::from_str::<Value>) {
        Some(Ok(parsed)) => keys(parsed),
        _ => value,
    }
}

fn array(value: Value) -> Value {
    match value {
        Value::Array(_) => value,
        Value::Null => Value::Array(vec![]),
        other => Value::Array(vec![other]),
    }
}

fn principals(value: Value) -> Value {
    match value {
        Value::Object(kinds) => kinds.into_iter().map(|(kind, who)| (snake(&kind), array(who))).collect(),
        // `"*"` is everybody, as `{"AWS": "*"}` is.
        everybody => json!({"aws": array(everybody)}),
    }
}

/// A policy document in one normal form; null stays, and what is no policy stays as text.
fn policy(value: Value) -> Value {
    let parsed = match &value {
        Value::String(text) if text.is_empty() => return Value::Null,
        Value::String(text) => {
            let text = if text.trim_start().starts_with('%') { percent_decoded(text) } else { text.clone() };
            serde_json::from_str::<Value>(&text).ok()
        }
        _ => None,
    };
    let Some(Value::Object(document)) = parsed else { return value };
    let statement = |value: Value| match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let key = snake(&key);
                let value = match key.as_str() {
                    "action" | "not_action" | "resource" | "not_resource" => array(value),
                    "principal" | "not_principal" => principals(value),
                    "condition" => condition(value),
                    _ => value,
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    };
    document
        .into_iter()
        .map(|(key, value)| match snake(&key).as_str() {
            "statement" => {
                let Value::Array(statements) = array(value) else { return ("statement".to_owned(), Value::Null) };
                ("statement".to_owned(), statements.into_iter().map(statement).collect())
            }
            key => (key.to_owned(), value),
        })
        .collect()
}

fn condition(value: Value) -> Value {
    let Value::Object(operators) = value else { return value };
    operators
        .into_iter()
        .map(|(operator, keys)| match keys {
            Value::Object(keys) => (operator, keys.into_iter().map(|(key, value)| (key, array(value))).collect()),
            other => (operator, other),
        })
        .collect()
}

fn key_values(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let text =
        |item: &Value, name: &str| item.get(name).map(|value| value.as_str().map_or_else(|| value.clone(), typed));
    items
        .iter()
        .filter_map(|item| Some((snake(item.get("key")?.as_str()?), text(item, "value").unwrap_or(Value::Null))))
        .collect()
}

/// The names of what has secret values.
fn names(value: Value) -> Value {
    const NAMES: [&str; 4] = ["name", "key", "parameter_key", "output_key"];
    let mut found: Vec<String> = match value {
        Value::Object(fields) => fields.into_iter().map(|(name, _)| name).collect(),
        Value::Array(items) => items
            .iter()
            .filter_map(|item| NAMES.iter().find_map(|name| item.get(*name)?.as_str()).map(str::to_owned))
            .collect(),
        _ => return Value::Null,
    };
    found.sort();
    found.into()
}

/// Texts that are numbers or booleans, as such.
pub(crate) fn typed_values(value: &mut Value) {
    if let Value::Object(fields) = value {
        for value in fields.values_mut() {
            if let Value::String(text) = value {
                *value = typed(text);
            }
        }
    }
}

/// The rows of a base64 CSV with a header (IAM's credential report); `N/A` and the like are null.
pub(crate) fn csv_rows(content: &str) -> Result<Vec<Value>, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(content.split_ascii_whitespace().collect::<String>())
        .map_err(|_| "the report is no base64".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "the report is no UTF-8".to_owned())?;
    let mut lines = text.lines();
    let names: Vec<String> = fields(lines.next().unwrap_or_default()).iter().map(|name| snake(name)).collect();
    let row = |line: &str| -> Value {
        let value = |text: String| match text.as_str() {
            "N/A" | "no_information" | "not_supported" | "" => Value::Null,
            other => typed(other),
        };
        let as_text = ["user", "arn"];
        names
            .iter()
            .zip(fields(line))
            .map(|(name, text)| {
                (name.clone(), if as_text.contains(&name.as_str()) { Value::String(text) } else { value(text) })
            })
            .collect()
    };
    Ok(lines.filter(|line| !line.is_empty()).map(row).collect())
}

fn fields(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => {
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    out
}

/// Takes the item's tags out, whichever of AWS's formats they have.
pub(crate) fn tags(item: &mut Value) -> domain::Tags {
    let Some(object) = item.as_object_mut() else { return domain::Tags::new() };
    let mut tags = domain::Tags::new();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    for name in ["tags", "tag_list", "tag_set"] {
        match object.remove(name) {
            Some(Value::Array(list)) => {
                for tag in list {
                    let key = tag.get("key").or_else(|| tag.get("tag_key")).map(text);
                    let value = tag.get("value").or_else(|| tag.get("tag_value")).map(text);
                    tags.extend(key.map(|key| (key, value.unwrap_or_default())));
                }
            }
            Some(Value::Object(map)) => tags.extend(map.iter().map(|(key, value)| (key.clone(), text(value)))),
            _ => {}
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(value: Value, rule: &str) -> Value {
        let mut item = json!({"p": value});
        apply(&mut item, "p", rule);
        item["p"].take()
    }

    #[test]
    fn policies_have_one_normal_form() {
        let text = r#"{"Version":"2012-10-17","Statement":{"Sid":"s","Effect":"Allow","Action":"s3:*","Resource":"*","Principal":"*",
            "Condition":{"StringEquals":{"aws:SourceArn":"x"}}}}"#;
        let expected = json!({"version": "2012-10-17", "statement": [{"sid": "s", "effect": "Allow", "action": ["s3:*"], "resource": ["*"],
            "principal": {"aws": ["*"]}, "condition": {"StringEquals": {"aws:SourceArn": ["x"]}}}]});
        assert_eq!(shaped(json!(text), "policy"), expected);
        let encoded = transport::aws::sigv4::encode(text, b"");
        assert!(encoded.starts_with("%7B"));
        assert_eq!(shaped(json!(encoded), "policy"), expected);
        assert_eq!(shaped(json!("no policy"), "policy"), json!("no policy"));
        assert_eq!(shaped(json!(null), "policy"), json!(null));
        let service =
            shaped(json!(r#"{"Statement":[{"Principal":{"Service":"ec2.amazonaws.com","AWS":["a"]}}]}"#), "policy");
        assert_eq!(service["statement"][0]["principal"], json!({"service": ["ec2.amazonaws.com"], "aws": ["a"]}));
    }

    #[test]
    fn of_secret_values_only_the_names_stay() {
        assert_eq!(shaped(json!({"PASSWORD": "hunter2", "A": "b"}), "names"), json!(["A", "PASSWORD"]));
        assert_eq!(shaped(json!([{"name": "TOKEN", "value": "hunter2"}]), "names"), json!(["TOKEN"]));
        assert_eq!(shaped(json!("hunter2"), "names"), json!(null));
        assert_eq!(shaped(json!("hunter2"), "drop"), json!(null));
    }

    #[test]
    fn reports_attributes_and_tags_are_read() {
        let report = base64::engine::general_purpose::STANDARD
            .encode("user,arn,mfa_active,password_last_changed\n<root_account>,arn:aws:iam::1:root,true,not_supported\n12,arn:x,false,N/A\n");
        let rows = csv_rows(&report).unwrap();
        assert_eq!(
            rows[0],
            json!({"user": "<root_account>", "arn": "arn:aws:iam::1:root", "mfa_active": true, "password_last_changed": null})
        );
        assert_eq!(rows[1]["user"], json!("12"));
        assert_eq!(
            shaped(json!([{"key": "idle_timeout.seconds", "value": "60"}]), "kv"),
            json!({"idle_timeout_seconds": 60})
        );
        let mut item = json!({"tags": [{"key": "Name", "value": true}], "x": 1});
        assert_eq!(tags(&mut item), [("Name".to_owned(), "true".to_owned())].into());
        assert_eq!(item, json!({"x": 1}));
    }
}
