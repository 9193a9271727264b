//! From an entry of the table to one call.

use domain::Limits;
use serde_json::{Map, Value};
use transport::AwsCall;

use super::path::{Context, expand, fill};
use super::table::{Ask, Protocol, Service};

/// Percent-encodes a path segment.
fn segment(text: &str) -> String {
    transport::aws::sigv4::encode(text, b"")
}

/// Templates in parameters, at any depth.
fn filled(value: &Value, context: Context<'_>) -> Option<Value> {
    match value {
        Value::String(text) => fill(text, context).map(Value::String),
        Value::Array(items) => items.iter().map(|item| filled(item, context)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| Some((key.clone(), filled(value, context)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Value::Object),
        other => Some(other.clone()),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Builds the call; none when a parameter names something that the item does not have. `token` continues a list.
pub(crate) fn build(service: &Service, ask: &Ask, context: Context<'_>, token: &[(String, String)]) -> Option<AwsCall> {
    let mut params = Map::new();
    for (key, value) in &ask.params {
        params.insert(key.clone(), filled(value, context)?);
    }
    params.extend(token.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))));
    let region = match &ask.region {
        Some(template) => fill(template, context)?,
        None => context.region.to_owned(),
    };
    let mut headers = Vec::new();
    for (name, template) in &ask.headers {
        headers.push((name.clone(), fill(template, context)?));
    }
    let (mut method, mut path, mut query, mut body) = ("POST".to_owned(), "/".to_owned(), Vec::new(), Vec::new());
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => {
            let fixed = [("Action", ask.call.as_str()), ("Version", service.version.as_str())];
            let fixed = fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            let form: Vec<String> = fixed
                .chain(params.iter().map(|(key, value)| (key.clone(), text(value))))
                .map(|(key, value)| format!("{}={}", segment(&key), segment(&value)))
                .collect();
            body = form.join("&").into_bytes();
            headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned()));
        }
        Protocol::Json => {
            body = Value::Object(params).to_string().into_bytes();
            headers.push(("content-type".to_owned(), format!("application/x-amz-json-{}", service.json)));
            headers.push(("x-amz-target".to_owned(), format!("{}.{}", service.target, ask.call)));
        }
        Protocol::RestJson | Protocol::RestXml => {
            let (verb, template) = ask.http.as_deref()?.split_once(' ')?;
            let (template, fixed) = template.split_once('?').unwrap_or((template, ""));
            verb.clone_into(&mut method);
            path = expand(template, context, segment).into_iter().next()?;
            for pair in fixed.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                query.push((key.to_owned(), value.to_owned()));
            }
            if method == "GET" {
                query.extend(params.iter().map(|(key, value)| (key.clone(), text(value))));
            } else {
                body = Value::Object(params).to_string().into_bytes();
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
        }
    }
    let prefix = match &service.host {
        Some(template) => Some(fill(template, context)?),
        None => None,
    };
    // S3 reads some sub-resources by another spelling in the bucket's own region only; paths keep bucket names with dots valid under TLS.
    (path.len() <= Limits::NODE_ID_BYTES * 4).then(|| AwsCall {
        service: service.signing().to_owned(),
        endpoint_prefix: prefix,
        region,
        global_endpoint: service.global,
        operation: ask.call.clone(),
        method,
        path,
        query,
        headers,
        body,
    })
}
