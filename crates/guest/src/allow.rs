//! From what a plugin asks for to a call of `transport`, if the manifest lists it.

use serde_json::{Map, Value};
use transport::aws::sigv4;
use transport::{AwsCall, HttpCall};

use crate::manifest::{AwsProtocol, AwsRule, HttpRule, Manifest, placeholder};
use crate::proto;

/// Headers that a plugin may set: none of them names another resource, method, host or user.
const HEADERS: &[&str] = &["accept", "accept-language", "content-type", "if-modified-since", "if-none-match"];
/// Largest body of a call, in bytes.
const BODY_BYTES: usize = 256 * 1_024;
/// Most query parameters or headers of a call.
const PAIRS: usize = 100;

fn pairs(pairs: Vec<proto::Pair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

/// Whether a path fits a pattern of the manifest.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) | (Some("**"), Some(_)) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(pattern), Some(part)) if pattern == part => {}
            _ => return false,
        }
    }
}

fn lists(rule: &HttpRule, settings: &Map<String, Value>, call: &proto::HttpCall) -> bool {
    let origin = match placeholder(&rule.origin) {
        Some(key) => settings.get(key).and_then(Value::as_str),
        None => Some(rule.origin.as_str()),
    };
    origin == Some(call.origin.as_str())
        && rule.methods.contains(&call.method)
        && rule.paths.iter().any(|pattern| fits(pattern, &call.path))
}

/// The call, or why it is not made.
pub(crate) fn http(
    manifest: &Manifest,
    settings: &Map<String, Value>,
    call: proto::HttpCall,
) -> Result<HttpCall, String> {
    // Before the patterns: they compare segments as they are written.
    if let Some(why) = transport::https::path_problem(&call.path) {
        return Err(why.to_owned());
    }
    if !manifest.calls.iter().filter_map(|rule| rule.http.as_ref()).any(|rule| lists(rule, settings, &call)) {
        return Err(format!("the manifest does not list {} {}{}", call.method, call.origin, call.path));
    }
    if let Some(header) = call.headers.iter().find(|header| !HEADERS.contains(&header.name.as_str())) {
        return Err(format!("the header `{}` is none of {}", header.name.escape_debug(), HEADERS.join(", ")));
    }
    if call.body.len() > BODY_BYTES || call.query.len() > PAIRS || call.headers.len() > PAIRS {
        return Err(format!("the call is larger than {BODY_BYTES} bytes of body or {PAIRS} parameters"));
    }
    if !call.body.is_empty() && call.method != "POST" {
        return Err(format!("a {} has no body", call.method));
    }
    Ok(HttpCall {
        origin: call.origin,
        method: call.method,
        path: call.path,
        query: pairs(call.query),
        headers: pairs(call.headers),
        body: call.body,
        authenticated: false,
    })
}

/// The call, or why it is not made. What the service is asked to do is written here, from the manifest, and not by the plugin.
pub(crate) fn aws(manifest: &Manifest, call: proto::AwsCall) -> Result<AwsCall, String> {
    let lists = |rule: &&AwsRule| rule.service == call.service && rule.operations.contains(&call.operation);
    let rule = manifest.calls.iter().filter_map(|rule| rule.aws.as_ref()).find(lists);
    let rule = rule.ok_or_else(|| format!("the manifest does not list {}:{}", call.service, call.operation))?;
    let region = &call.region;
    if !(1..=32).contains(&region.len())
        || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(format!("`{}` is no region", region.escape_debug()));
    }
    if call.params.len() > 1_000 || call.json.len() > BODY_BYTES {
        return Err("the call has more than 1,000 parameters or 256 KiB".to_owned());
    }
    let (headers, body) = match rule.protocol {
        AwsProtocol::Query => {
            if !call.json.is_empty() {
                return Err(format!("{} takes `params`, not `json`", call.service));
            }
            // Names as the services read them: no second `Action` in whatever case.
            if call.params.iter().any(|p| ["action", "version"].contains(&p.name.to_ascii_lowercase().as_str())) {
                return Err("`Action` and `Version` come from the manifest".to_owned());
            }
            let own = [("Action", call.operation.as_str()), ("Version", rule.version.as_str())];
            let told = call.params.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()));
            let form: Vec<String> = own
                .into_iter()
                .chain(told)
                .map(|(name, value)| format!("{}={}", sigv4::encode(name, b""), sigv4::encode(value, b"")))
                .collect();
            (vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())], form.join("&"))
        }
        AwsProtocol::Json => {
            if !call.params.is_empty() {
                return Err(format!("{} takes `json`, not `params`", call.service));
            }
            let body = if call.json.is_empty() { "{}".to_owned() } else { call.json };
            let headers = vec![
                ("content-type", format!("application/x-amz-json-{}", rule.version)),
                ("x-amz-target", format!("{}.{}", rule.target, call.operation)),
            ];
            (headers, body)
        }
    };
    Ok(AwsCall {
        service: call.service,
        endpoint_prefix: rule.endpoint_prefix.clone(),
        region: call.region,
        global_endpoint: rule.global,
        operation: call.operation,
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: Vec::new(),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: body.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Manifest {
        Manifest::read(
            r#"
protocol = 1
name = "status"
version = "1"
about = "a"
exec = ["p"]
node_types = ["status.service"]
[[settings]]
key = "url"
help = "h"
example = "https://a.example"
type = "origin"
[[calls]]
why = "w"
http = { origin = "{url}", methods = ["GET", "POST"], paths = ["/api/services", "/api/services/*/checks", "/all/**"] }
[[calls]]
why = "w"
aws = { service = "ec2", protocol = "query", version = "2016-11-15", operations = ["DescribeInstances"] }
[[calls]]
why = "w"
aws = { service = "ssm", protocol = "json", version = "1.1", target = "AmazonSSM", operations = ["DescribeParameters"] }
"#,
        )
        .unwrap()
    }

    fn get(method: &str, origin: &str, path: &str) -> Result<HttpCall, String> {
        let settings = json!({"url": "https://a.example"});
        let call = proto::HttpCall {
            origin: origin.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            ..proto::HttpCall::default()
        };
        http(&manifest(), settings.as_object().unwrap(), call)
    }

    #[test]
    fn only_what_is_listed_is_asked() {
        for path in ["/api/services", "/api/services/7/checks", "/all/a/b", "/all/a"] {
            assert!(get("GET", "https://a.example", path).is_ok(), "{path}");
        }
        for (method, origin, path) in [
            ("GET", "https://a.example", "/api/services/"),
            ("GET", "https://a.example", "/api/services/7"),
            ("GET", "https://a.example", "/api/services//checks"),
            ("GET", "https://a.example", "/api/services/7/8/checks"),
            ("GET", "https://a.example", "/all/../admin"),
            ("GET", "https://a.example", "/all/%2e%2e/admin"),
            ("GET", "https://a.example", "/all"),
            ("DELETE", "https://a.example", "/api/services"),
            ("get", "https://a.example", "/api/services"),
            ("GET", "https://b.example", "/api/services"),
            ("GET", "http://a.example", "/api/services"),
            ("GET", "https://a.example:444", "/api/services"),
            ("GET", "https://a.example@b.example", "/api/services"),
        ] {
            assert!(get(method, origin, path).is_err(), "{method} {origin}{path}");
        }
    }

    #[test]
    fn a_setting_that_was_not_given_allows_nothing() {
        let call = proto::HttpCall { method: "GET".into(), path: "/api/services".into(), ..Default::default() };
        assert!(http(&manifest(), &Map::new(), call).is_err());
    }

    #[test]
    fn what_aws_is_asked_to_do_comes_from_the_manifest() {
        let ask = |service: &str, operation: &str, params: &[(&str, &str)], json: &str| {
            let params = params.iter().map(|(n, v)| proto::Pair { name: (*n).into(), value: (*v).into() }).collect();
            let (service, operation) = (service.to_owned(), operation.to_owned());
            aws(
                &manifest(),
                proto::AwsCall { service, region: "eu-west-1".into(), operation, params, json: json.into() },
            )
        };
        let call = ask("ec2", "DescribeInstances", &[("Max&Action=X", "a b")], "").unwrap();
        assert_eq!(
            String::from_utf8(call.body).unwrap(),
            "Action=DescribeInstances&Version=2016-11-15&Max%26Action%3DX=a%20b"
        );
        let call = ask("ssm", "DescribeParameters", &[], "").unwrap();
        assert_eq!(call.headers[1], ("x-amz-target".to_owned(), "AmazonSSM.DescribeParameters".to_owned()));
        for (service, operation, params, json) in [
            ("ec2", "TerminateInstances", &[][..], ""),
            ("ec2", "DescribeInstances", &[("Action", "TerminateInstances")][..], ""),
            ("ec2", "DescribeInstances", &[("action", "TerminateInstances")][..], ""),
            ("ec2", "DescribeInstances", &[][..], "{}"),
            ("ssm", "DescribeParameters", &[("a", "b")][..], ""),
            ("iam", "DescribeInstances", &[][..], ""),
        ] {
            assert!(ask(service, operation, params, json).is_err(), "{service} {operation} {params:?}");
        }
    }
}
