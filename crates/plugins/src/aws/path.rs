//! Paths into a reply (`a.b[].c`, `a[0].b`) and templates over them (`{arn|tail}`): the table's small language.

use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    Whole,
    Each,
    Nth(usize),
}

fn parts(path: &str) -> impl Iterator<Item = (&str, Take)> {
    path.split('.').filter(|part| !part.is_empty()).map(|part| match part.split_once('[') {
        None => (part, Take::Whole),
        Some((name, index)) => (name, index.trim_end_matches(']').parse().map_or(Take::Each, Take::Nth)),
    })
}

/// Every value at `path`; null counts as nothing.
pub(crate) fn values<'a>(root: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![root];
    for (name, take) in parts(path) {
        found = found
            .into_iter()
            .filter_map(|value| value.get(name))
            .flat_map(|value| match (take, value) {
                (Take::Whole, value) => vec![value],
                (Take::Each, Value::Array(items)) => items.iter().collect(),
                (Take::Each, _) => vec![],
                (Take::Nth(n), value) => value.get(n).into_iter().collect(),
            })
            .collect();
    }
    found.retain(|value| !value.is_null());
    found
}

/// The first value at `path`.
pub(crate) fn first<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    values(root, path).into_iter().next()
}

/// Every array element or value at `path`, to change.
pub(crate) fn values_mut<'a>(root: &'a mut Value, path: &str) -> Vec<&'a mut Value> {
    let mut found = vec![root];
    for (name, take) in parts(path) {
        found = found
            .into_iter()
            .filter_map(|value| value.get_mut(name))
            .flat_map(|value| match (take, value) {
                (Take::Whole, value) => vec![value],
                (Take::Each, Value::Array(items)) => items.iter_mut().collect(),
                (Take::Each, _) => vec![],
                (Take::Nth(n), value) => value.get_mut(n).into_iter().collect(),
            })
            .collect();
    }
    found
}

/// The objects that hold the last name of `path`, with that name.
pub(crate) fn holders<'a, 'p>(root: &'a mut Value, path: &'p str) -> (Vec<&'a mut Map<String, Value>>, &'p str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let holders = values_mut(root, parent).into_iter().filter_map(Value::as_object_mut);
    (holders.filter(|object| object.contains_key(name)).collect(), name)
}

/// What a template may name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) item: &'a Value,
    pub(crate) parent: Option<&'a Value>,
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The name of the bucket in `arn:aws:s3:::name/prefix` or `name.s3.eu-west-1.amazonaws.com`.
fn bucket(text: &str) -> Option<String> {
    if let Some(arn) = text.strip_prefix("arn:") {
        return arn.split_once(":s3:::").and_then(|(_, rest)| rest.split('/').next()).map(str::to_owned);
    }
    let (name, rest) = text.split_once(".s3")?;
    (rest.starts_with(['.', '-']) && rest.contains("amazonaws.com")).then(|| name.to_owned())
}

/// Scheme and host of a web address, whose path and query may be a secret; other texts as they are.
pub(crate) fn origin(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
        }
        None => text.to_owned(),
    }
}

fn filtered(text: String, filter: &str) -> Option<String> {
    let nth = |n: &str, by: char| n.parse().ok().and_then(|n| text.split(by).nth(n)).map(str::to_owned);
    match filter.split_once(':').unwrap_or((filter, "")) {
        ("tail", _) => text.rsplit(['/', ':']).next().map(str::to_owned),
        ("slash", n) => nth(n, '/'),
        ("colon", n) => nth(n, ':'),
        ("without", end) => Some(text.strip_suffix(end).unwrap_or(&text).to_owned()),
        ("bucket", _) => bucket(&text),
        ("origin", _) => Some(origin(&text)),
        _ => Some(text),
    }
    .filter(|text| !text.is_empty())
}

fn lookup(expression: &str, context: Context<'_>) -> Vec<String> {
    let mut pipe = expression.split('|');
    let path = pipe.next().unwrap_or_default();
    let mut found: Vec<String> = match path {
        "account" => vec![context.account.to_owned()],
        "region" => vec![context.region.to_owned()],
        "partition" => vec![transport::aws::endpoint::partition(context.region).id.to_owned()],
        _ => {
            let root =
                path.strip_prefix("parent.").map_or(Some((context.item, path)), |rest| Some((context.parent?, rest)));
            root.map(|(value, path)| values(value, path).into_iter().filter_map(scalar).collect()).unwrap_or_default()
        }
    };
    for filter in pipe {
        match filter.strip_prefix("or:") {
            Some(default) if found.is_empty() => found.push(default.to_owned()),
            Some(_) => {}
            None => found = found.into_iter().filter_map(|text| filtered(text, filter)).collect(),
        }
    }
    found
}

/// Every text that the template stands for: none when something that it names is not there.
pub(crate) fn expand(template: &str, context: Context<'_>, quote: impl Fn(&str) -> String) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let (expression, after) = tail.split_once('}').unwrap_or((tail, ""));
        let values = lookup(expression, context);
        texts = texts
            .iter()
            .flat_map(|text| values.iter().map(move |value| (text, value)))
            .map(|(text, value)| format!("{text}{before}{}", quote(value)))
            .collect();
        rest = after;
    }
    for text in &mut texts {
        text.push_str(rest);
    }
    texts
}

/// The one text that the template stands for.
pub(crate) fn fill(template: &str, context: Context<'_>) -> Option<String> {
    expand(template, context, str::to_owned).into_iter().next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_read_lists_parents_and_defaults() {
        let item = json!({"a": {"b": [{"c": "x"}, {"c": "y"}, {"d": 1}]}, "arn": "arn:aws:iam::1:role/p/web", "n": null, "port": 443});
        let parent = json!({"name": "top"});
        let context = Context { item: &item, parent: Some(&parent), account: "1", region: "r" };
        let all = |template: &str| expand(template, context, str::to_owned);
        assert_eq!(all("{a.b[].c}"), ["x", "y"]);
        assert_eq!(all("{a.b[1].c}/{parent.name}"), ["y/top"]);
        assert_eq!(all("{arn|tail}"), ["web"]);
        assert_eq!(all("{arn|slash:1}"), ["p"]);
        assert_eq!(all("{account}:{region}:{port}"), ["1:r:443"]);
        assert_eq!(all("arn:{partition}:x:{region}"), ["arn:aws:x:r"]);
        assert_eq!(all("{arn|without:/web}"), ["arn:aws:iam::1:role/p"]);
        assert_eq!(all("{arn|without::*}"), ["arn:aws:iam::1:role/p/web"]);
        assert_eq!(all("{missing}"), Vec::<String>::new());
        assert_eq!(all("{n|or:z}"), ["z"]);
        assert_eq!(all("plain"), ["plain"]);
        assert_eq!(bucket("logs.s3.amazonaws.com").as_deref(), Some("logs"));
        assert_eq!(bucket("arn:aws:s3:::logs/prefix").as_deref(), Some("logs"));
        assert_eq!(bucket("example.com"), None);
        assert_eq!(origin("https://u:p@hooks.example/T0/secret?x=y"), "https://hooks.example");
    }
}
