//! SCIM filters (RFC 7644, section 3.4.2.2): `attribute eq value`, joined by `and`. What else the grammar knows is refused, never guessed.

use serde_json::Value;
use store::ScimFilter;

use super::{Refusal, refusal};

const CORE: [&str; 2] = ["urn:ietf:params:scim:schemas:core:2.0:User:", "urn:ietf:params:scim:schemas:core:2.0:Group:"];

/// An attribute's name without the schema in front.
pub(super) fn core(name: &str) -> &str {
    let prefix = |prefix: &&str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    CORE.iter().find(|begin| prefix(begin)).and_then(|begin| name.get(begin.len()..)).unwrap_or(name)
}

fn bad(detail: &str) -> Refusal {
    refusal("invalidFilter", format!("{detail}: use `attribute eq value`, joined by `and`"))
}

/// The words of a filter: quoted values stay whole, with their quotes.
fn words(text: &str) -> Result<Vec<String>, Refusal> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                word.push(c);
            }
            '\\' if quoted => {
                escaped = true;
                word.push(c);
            }
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    if quoted {
        return Err(bad("a quote is not closed"));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The parts of a filter: attributes, without their schema, and what they have to equal.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Value)>, Refusal> {
    if text.len() > 2_048 {
        return Err(bad("the filter is longer than 2,048 bytes"));
    }
    let words = words(text)?;
    let mut parts = Vec::new();
    for (at, part) in words.chunks(4).enumerate() {
        let [attribute, operator, value, rest @ ..] = part else { return Err(bad("the filter is not complete")) };
        if !operator.eq_ignore_ascii_case("eq") {
            return Err(bad("the only operator is `eq`"));
        }
        let last = (at + 1) * 4 > words.len();
        match rest {
            [] if last => {}
            [and] if and.eq_ignore_ascii_case("and") && (at + 1) * 4 < words.len() => {}
            _ => return Err(bad("parts are joined by `and` only")),
        }
        let value = serde_json::from_str(value).map_err(|_| bad("a value is a quoted text, true or false"))?;
        parts.push((core(attribute).to_owned(), value));
    }
    if parts.is_empty() { Err(bad("the filter is empty")) } else { Ok(parts) }
}

/// Narrows to one text; two different ones are never both equal, which the empty text stands for.
fn narrow(slot: &mut Option<String>, text: String) {
    let text = if slot.as_ref().is_some_and(|before| *before != text) { String::new() } else { text };
    *slot = Some(text);
}

fn build(text: Option<&str>, name: &str) -> Result<ScimFilter, Refusal> {
    let mut out = ScimFilter::default();
    for (attribute, value) in text.map(parse).transpose()?.unwrap_or_default() {
        let attribute = attribute.to_ascii_lowercase();
        let is_user = name == "username";
        match (attribute.as_str(), value) {
            (given, Value::String(text)) if given == name => narrow(&mut out.name, text.to_lowercase()),
            ("externalid", Value::String(text)) => narrow(&mut out.external_id, text),
            ("id", Value::String(text)) => narrow(&mut out.id, text),
            ("emails" | "emails.value", Value::String(text)) if is_user => narrow(&mut out.email, text.to_lowercase()),
            ("active", Value::Bool(active)) if is_user => {
                if out.active.is_some_and(|before| before != active) {
                    out.id = Some(String::new());
                }
                out.active = Some(active);
            }
            _ => return Err(bad(&format!("`{}` cannot be asked for like this", attribute.escape_debug()))),
        }
    }
    Ok(out)
}

/// A filter of users.
pub(super) fn users(text: Option<&str>) -> Result<ScimFilter, Refusal> {
    build(text, "username")
}

/// A filter of groups.
pub(super) fn groups(text: Option<&str>) -> Result<ScimFilter, Refusal> {
    build(text, "displayname")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_okta_and_entra_ask_is_understood() {
        let filter = users(Some(r#"userName eq "Ann@Example.org""#)).unwrap();
        assert_eq!(filter.name.as_deref(), Some("ann@example.org"));
        let filter =
            users(Some(r#"urn:ietf:params:scim:schemas:core:2.0:User:userName Eq "a" AND active eq true"#)).unwrap();
        assert_eq!((filter.name.as_deref(), filter.active), (Some("a"), Some(true)));
        let filter = users(Some(r#"emails.value eq "a b\"c" and externalId eq "X""#)).unwrap();
        assert_eq!((filter.email.as_deref(), filter.external_id.as_deref()), (Some("a b\"c"), Some("X")));
        let filter = groups(Some(r#"displayName eq "All and sundry""#)).unwrap();
        assert_eq!(filter.name.as_deref(), Some("all and sundry"));
    }

    #[test]
    fn two_values_of_one_attribute_match_nobody() {
        let filter = users(Some(r#"userName eq "a" and userName eq "b""#)).unwrap();
        assert_eq!(filter.name.as_deref(), Some(""));
        assert_eq!(users(Some("active eq true and active eq false")).unwrap().id.as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_never_read_as_everything() {
        for text in [
            "",
            " ",
            "userName",
            "userName pr",
            r#"userName co "a""#,
            r#"userName eq "a" or userName eq "b""#,
            r#"userName eq "a" and"#,
            r#"userName eq "a" userName eq "b""#,
            r#"not (userName eq "a")"#,
            r#"(userName eq "a")"#,
            r#"userName eq "a"#,
            "userName eq a",
            "userName eq 1",
            r#"active eq "true""#,
            r#"password eq "x""#,
            r#"emails[type eq "work"].value eq "a""#,
            r#"displayName eq "a""#,
        ] {
            assert_eq!(users(Some(text)).unwrap_err().kind, Some("invalidFilter"), "{text}");
        }
        assert!(users(Some(&format!("userName eq \"{}\"", "a".repeat(3_000)))).is_err());
    }
}
