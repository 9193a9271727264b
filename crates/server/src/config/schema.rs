//! The configuration file as a JSON Schema, made from the structs that read it: for editors, and for whoever writes the file by a program.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::Config;

/// The schema (draft 2020-12).
pub(crate) fn schema() -> anyhow::Result<Value> {
    let mut parts: Vec<(String, RefOr<Schema>)> = vec![("Config".to_owned(), Config::schema())];
    Config::schemas(&mut parts);
    let parts: std::collections::BTreeMap<String, RefOr<Schema>> = parts.into_iter().collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of cairn-server",
        "$ref": "#/$defs/Config",
        "$defs": parts,
    });
    // The library names parts where OpenAPI keeps them.
    Ok(serde_json::from_str(&schema.to_string().replace("#/components/schemas/", "#/$defs/"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_the_committed_one_and_knows_every_key_of_the_environment() {
        let schema = schema().unwrap();
        for (section, key, _) in super::super::keys() {
            let part = schema["$defs"]["Config"]["properties"][section].to_string();
            let name = part.rsplit("#/$defs/").next().unwrap().split('"').next().unwrap();
            let known = &schema["$defs"][name]["properties"][key];
            assert!(known["description"].is_string(), "{section}.{key}: {known}");
            assert_eq!(schema["$defs"][name]["additionalProperties"], json!(false), "{section}");
        }
        testkit::golden::check("../../docs/config.schema.json", &format!("{schema:#}\n"));
    }
}
