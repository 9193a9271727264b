//! Audit records as other systems read them: JSON lines, CEF, OCSF, and RFC 5424 syslog messages. One record is one line in each.
//!
//! Every line carries the log's name and the record's place in it, so that a row in a SIEM can be proven with `log/proof`.
//! Whatever a record's texts hold (line ends, escape sequences, bidirectional marks, separators of the format) stays inside its field.

use std::fmt::Write as _;
use std::str::FromStr;

use domain::Error;
use serde_json::{Value, json};

use crate::audit::AuditRecord;

/// The product's name in every format.
const PRODUCT: &str = "Cairn";
/// The version of the OCSF schema that events follow.
const OCSF_VERSION: &str = "1.3.0";
/// Longest free text in a CEF field, in bytes.
const CEF_TEXT_BYTES: usize = 4_096;
/// The facility "log audit" of RFC 5424.
const FACILITY: u8 = 13;
/// The structured data's name; 32473 is the number that RFC 5612 reserves for those who have none.
const SD_ID: &str = "cairn@32473";

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The API's document with the log's name, one JSON object a line.
    Jsonl,
    /// Common Event Format, version 0.
    Cef,
    /// Open Cybersecurity Schema Framework, one JSON object a line.
    Ocsf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Jsonl, Self::Cef, Self::Ocsf];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Cef => "cef",
            Self::Ocsf => "ocsf",
        }
    }

    /// A record as one line, without its end.
    pub fn line(self, origin: &str, record: &AuditRecord) -> String {
        match self {
            Self::Jsonl => json_line(&jsonl(origin, record)),
            Self::Cef => cef(origin, record),
            Self::Ocsf => json_line(&ocsf(origin, record)),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|format| format.as_str() == text);
        known.ok_or_else(|| Error::invalid("format", "use one of jsonl, cef, ocsf"))
    }
}

/// Characters that do something to a terminal or to a program that splits lines.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// JSON on one line. The encoder escapes what JSON demands; the rest stands in strings only, so it can be escaped in the text.
fn json_line(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// What the canonical bytes say and the document does not.
fn entry(record: &AuditRecord) -> Value {
    serde_json::from_str(&record.entry).unwrap_or_default()
}

fn jsonl(origin: &str, record: &AuditRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("origin".to_owned(), origin.into());
    }
    value
}

/// A text of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// A field of CEF's header, or with `extension` the value of a key.
fn cef_text(text: &str, extension: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in cut(text, CEF_TEXT_BYTES).chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '|' if !extension => out.push_str("\\|"),
            '=' if extension => out.push_str("\\="),
            '\n' if extension => out.push_str("\\n"),
            '\r' if extension => out.push_str("\\r"),
            c if is_harmful(c) => {
                let _ = write!(out, "\\\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// CEF's severity, 0 to 10.
fn cef_severity(outcome: &str) -> u8 {
    match outcome {
        "success" => 2,
        "deny" => 6,
        _ => 5,
    }
}

fn cef(origin: &str, record: &AuditRecord) -> String {
    let entry = entry(record);
    let said = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = format!("{} {}", record.action, record.outcome);
    let mut out = format!(
        "CEF:0|{PRODUCT}|{PRODUCT}|1|{}|{}|{}|",
        cef_text(&record.action, false),
        cef_text(&name, false),
        cef_severity(&record.outcome)
    );
    let fields = [
        ("rt", record.at.as_millis().to_string()),
        ("externalId", record.id.to_string()),
        ("cat", record.category.clone()),
        ("act", record.action.clone()),
        ("outcome", record.outcome.clone()),
        ("suser", record.actor.clone()),
        ("suid", said("/actor/id")),
        ("src", said("/src")),
        ("cs1Label", "origin".to_owned()),
        ("cs1", origin.to_owned()),
        ("cn1Label", "index".to_owned()),
        ("cn1", record.seq.to_string()),
        ("cs2Label", "objectType".to_owned()),
        ("cs2", record.object_type.clone()),
        ("cs3Label", "object".to_owned()),
        ("cs3", record.object_id.clone()),
        ("cs4Label", "leaf".to_owned()),
        ("cs4", record.leaf.clone()),
        ("cs5Label", "request".to_owned()),
        ("cs5", said("/req")),
        ("msg", record.detail.to_string()),
    ];
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    let fields: Vec<String> = fields.map(|(key, value)| format!("{key}={}", cef_text(value, true))).collect();
    out.push_str(&fields.join(" "));
    out
}

/// The OCSF class of a record: its id and name, its category, and what was done.
fn ocsf_class(record: &AuditRecord) -> (u32, &'static str, u32, &'static str, u32) {
    let verb = record.action.rsplit('_').next().unwrap_or_default();
    match (record.category.as_str(), record.action.as_str()) {
        ("authentication", action) if action.ends_with("revoke") => {
            (3_002, "Authentication", 3, "Identity & Access Management", 2)
        }
        ("authentication", action) if action.ends_with("create") => {
            (3_002, "Authentication", 3, "Identity & Access Management", 1)
        }
        ("user" | "authentication", "password_change") => {
            (3_001, "Account Change", 3, "Identity & Access Management", 3)
        }
        ("authentication", _) => (3_002, "Authentication", 3, "Identity & Access Management", 99),
        ("user", action) if action.starts_with("user_") || action.starts_with("member_") => {
            let activity = match verb {
                "create" => 1,
                "delete" => 6,
                "put" => 7,
                _ => 99,
            };
            (3_001, "Account Change", 3, "Identity & Access Management", activity)
        }
        _ => {
            let activity = match verb {
                "create" | "add" | "ingest" | "collect" | "sign" => 1,
                "list" | "show" | "read" | "export" | "use" => 2,
                "delete" | "remove" => 4,
                _ => 3,
            };
            (6_003, "API Activity", 6, "Application Activity", activity)
        }
    }
}

fn ocsf(origin: &str, record: &AuditRecord) -> Value {
    let entry = entry(record);
    let said = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (class_uid, class_name, category_uid, category_name, activity_id) = ocsf_class(record);
    let (status_id, status) = if record.outcome == "success" { (1, "Success") } else { (2, "Failure") };
    let (severity_id, severity) = if record.outcome == "success" { (1, "Informational") } else { (2, "Low") };
    let user = json!({"name": record.actor, "uid": said("/actor/id"), "type": "User", "type_id": 1});
    let source = match said("/src") {
        Some(ip) => json!({"ip": ip}),
        None => json!({"svc_name": "cairn-server"}),
    };
    let mut event = json!({
        "class_uid": class_uid,
        "class_name": class_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "activity_id": activity_id,
        "activity_name": record.action,
        "type_uid": u64::from(class_uid) * 100 + u64::from(activity_id),
        "time": record.at.as_millis(),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_code": record.outcome,
        "message": format!("{} {} {} {}", record.actor, record.action, record.object_id, record.outcome),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": PRODUCT, "vendor_name": PRODUCT},
            "uid": record.id,
            "sequence": record.seq,
            "log_name": origin,
            "log_provider": "cairn-server",
            "tenant_uid": said("/tenant"),
            "correlation_uid": said("/req"),
        },
        "src_endpoint": source,
        "actor": {"user": user},
        "unmapped": {
            "origin": origin,
            "index": record.seq,
            "leaf": record.leaf,
            "category": record.category,
            "detail": record.detail,
        },
    });
    if let Some(event) = event.as_object_mut() {
        match class_uid {
            6_003 => {
                event.insert("api".to_owned(), json!({"operation": record.action, "service": {"name": PRODUCT}}));
                event.insert("resources".to_owned(), json!([{"type": record.object_type, "uid": record.object_id}]));
            }
            3_002 => {
                event.insert("user".to_owned(), user);
                event.insert("service".to_owned(), json!({"name": PRODUCT}));
            }
            _ => {
                let changed =
                    if record.object_type == "user" { record.object_id.as_str() } else { record.actor.as_str() };
                event.insert("user".to_owned(), json!({"uid": changed, "type": "User", "type_id": 1}));
            }
        }
    }
    event
}

/// A parameter's value in structured data (RFC 5424, 6.3.3).
fn sd_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' | ']' => {
                out.push('\\');
                out.push(c);
            }
            c if is_harmful(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A header field of syslog: printable ASCII of a limited length, `-` for none.
fn syslog_name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// A record as an RFC 5424 message. Over TLS it goes after its length in bytes and a space (RFC 5425).
pub fn syslog(format: Format, host: &str, origin: &str, record: &AuditRecord) -> String {
    let severity = if record.outcome == "success" { 6 } else { 5 };
    format!(
        "<{}>1 {} {} cairn-server - {} [{SD_ID} origin=\"{}\" index=\"{}\"] \u{feff}{}",
        FACILITY * 8 + severity,
        record.at,
        syslog_name(host, 255),
        syslog_name(&record.action, 32),
        sd_value(origin),
        record.seq,
        format.line(origin, record)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(action: &str, category: &str, text: &str) -> AuditRecord {
        let entry = json!({"actor": {"id": "usr_1"}, "src": "192.0.2.7", "req": "req_1", "tenant": "ten_1"});
        AuditRecord {
            seq: 7,
            id: "aud_00000000000000000000000007".parse().unwrap(),
            at: domain::Timestamp::from_millis(1_795_316_400_123),
            category: category.to_owned(),
            action: action.to_owned(),
            outcome: "success".to_owned(),
            actor: text.to_owned(),
            object_type: "thing".to_owned(),
            object_id: text.to_owned(),
            detail: json!({"why": text}),
            entry: entry.to_string(),
            leaf: "00".repeat(32),
        }
    }

    const NASTY: &str = "a\r\nCEF:0|x|y|1|z|fake|9|act=none \u{1b}[2J\0\u{2028}\u{85}\u{202e}\u{7f}\"]|=\\ <34>1 - x";

    #[test]
    fn attack_61_whatever_a_record_holds_it_is_one_line_in_every_format() {
        let record = record("user_create", "user", NASTY);
        let lines = Format::ALL.map(|format| format.line("example.com/t/1", &record));
        let messages = Format::ALL.map(|format| syslog(format, "host\n name", "example.com/t/1", &record));
        for line in lines.iter().chain(&messages) {
            let body = line.replacen('\u{feff}', "", 1);
            assert!(!body.chars().any(is_harmful), "{line:?}");
            assert_eq!(body.lines().count(), 1);
        }
        for format in [Format::Jsonl, Format::Ocsf] {
            let back: Value = serde_json::from_str(&format.line("o", &record)).unwrap();
            let text = back.pointer("/actor/user/name").or_else(|| back.get("actor")).unwrap();
            assert_eq!(text, NASTY, "nothing of it is lost");
        }
        let cef = Format::Cef.line("o", &record);
        // Seven bars that are not escaped end the header's fields, and the texts brought none along.
        let header = cef.replace("\\|", "");
        assert_eq!(header.split_once("|rt=").unwrap().0.matches('|').count(), 6, "{cef}");
        assert!(!cef.contains(" act=none") && cef.contains("act\\=none"), "{cef}");
        assert!(messages[0].starts_with("<110>1 2026-"), "{}", messages[0]);
        assert!(messages[0].contains(
            " hostname cairn-server - user_create [cairn@32473 origin=\"example.com/t/1\" index=\"7\"] \u{feff}{"
        ));
    }

    #[test]
    fn every_line_carries_the_log_and_the_place() {
        let record = record("job_create", "discovery", "x");
        let jsonl: Value = serde_json::from_str(&Format::Jsonl.line("o", &record)).unwrap();
        assert_eq!((&jsonl["origin"], &jsonl["seq"]), (&json!("o"), &json!(7)));
        let ocsf: Value = serde_json::from_str(&Format::Ocsf.line("o", &record)).unwrap();
        assert_eq!((&ocsf["unmapped"]["origin"], &ocsf["unmapped"]["index"]), (&json!("o"), &json!(7)));
        let cef = Format::Cef.line("o", &record);
        assert!(cef.contains("cs1Label=origin cs1=o cn1Label=index cn1=7"), "{cef}");
    }

    /// The attributes that OCSF 1.3 requires of each class, and the arithmetic of its ids.
    #[test]
    fn ocsf_events_have_what_their_class_requires() {
        for (action, category, class, required) in [
            ("session_create", "authentication", 3_002, &["user", "service"][..]),
            ("session_revoke", "authentication", 3_002, &["user", "service"]),
            ("password_change", "authentication", 3_001, &["user"]),
            ("member_put", "user", 3_001, &["user"]),
            ("credential_create", "credential", 6_003, &["actor", "api", "src_endpoint"]),
            ("finding_list", "authorization", 6_003, &["actor", "api", "src_endpoint"]),
        ] {
            let event = ocsf("o", &record(action, category, "x"));
            assert_eq!(event["class_uid"], class, "{action}");
            let base = ["activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"];
            for attribute in base.iter().chain(required) {
                assert!(!event[*attribute].is_null(), "{action}: {attribute}");
            }
            assert_eq!(event["type_uid"].as_u64().unwrap(), class * 100 + event["activity_id"].as_u64().unwrap());
            assert_eq!(event["category_uid"].as_u64().unwrap(), class / 1_000);
            assert!(!event["metadata"]["product"]["name"].is_null() && !event["metadata"]["version"].is_null());
            assert!(!event["type_uid"].as_u64().unwrap().is_multiple_of(100));
        }
    }
}
