//! The project's Helm chart, rendered without Helm: as much of its template language as the chart uses, and a panic that names anything else.
//!
//! What it renders is what Go's own `text/template` renders of the same files with five sets of values, byte for byte (ADR 0068).

use std::fs;

use serde_json::{Value, json};

use crate::suite;

/// A part of a template.
enum Node {
    Text(String),
    Print(Pipe),
    /// `{{ $name := … }}`, or with `=` for one that is there.
    Set {
        name: String,
        is_new: bool,
        to: Pipe,
    },
    If {
        when: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        name: Option<String>,
        over: Pipe,
        body: Vec<Node>,
    },
}

/// Commands; what one gives is the last argument of the next.
type Pipe = Vec<Vec<Term>>;

enum Term {
    Value(Value),
    /// From what `.` is.
    Path(Vec<String>),
    Variable(String),
    Function(String),
    Pipe(Pipe),
}

/// The objects of the chart's `templates/` with these values over those of `values.yaml`, as YAML.
///
/// # Panics
/// Where the chart says `fail` or `required`, or something that is not known here.
pub fn render(template: &str, values: &Value, namespace: &str) -> String {
    let folder = suite::workspace().join("deploy/helm/cairn-relay");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let yaml =
        |name: &str| -> Value { serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}")) };
    let (mut all, chart) = (yaml("values.yaml"), yaml("Chart.yaml"));
    merge(&mut all, values);
    let root = json!({
        "Values": all,
        "Release": {"Namespace": namespace},
        "Chart": {"AppVersion": chart["appVersion"]},
    });
    render_text(&read(&format!("templates/{template}")), &root)
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                let known = into.get_mut(name).unwrap_or_else(|| panic!("`{name}` is no value of the chart"));
                merge(known, value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn render_text(template: &str, root: &Value) -> String {
    let mut parts = parts(template).into_iter().peekable();
    let nodes = nodes(&mut parts, &[]).0;
    let mut out = String::new();
    write(&nodes, root, &mut Vec::new(), &mut out);
    out
}

/// Text, or what stands between `{{` and `}}`.
enum Part {
    Text(String),
    Action(String),
}

fn parts(template: &str) -> Vec<Part> {
    let (mut parts, mut rest, mut trims) = (Vec::new(), template, false);
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(before, after)| (before, Some(after)));
        let mut text = if trims { before.trim_start() } else { before };
        if after.is_some_and(|after| after.starts_with("- ")) {
            text = text.trim_end();
        }
        parts.push(Part::Text(text.to_owned()));
        let Some(after) = after else { return parts };
        let (action, left) = after.split_once("}}").expect("an action ends");
        trims = action.ends_with(" -");
        let action = action.strip_prefix('-').unwrap_or(action);
        parts.push(Part::Action(action.strip_suffix('-').unwrap_or(action).trim().to_owned()));
        rest = left;
    }
}

/// The nodes up to one of these words, and which it was.
fn nodes(parts: &mut std::iter::Peekable<std::vec::IntoIter<Part>>, ends: &[&str]) -> (Vec<Node>, String) {
    let mut nodes = Vec::new();
    while let Some(part) = parts.next() {
        let action = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Part::Action(action) => action,
        };
        if ends.contains(&action.as_str()) {
            return (nodes, action);
        }
        nodes.push(match action.split_once(' ') {
            Some(("if", when)) => {
                let when = pipe(when);
                let (then, end) = self::nodes(parts, &["else", "end"]);
                let otherwise = if end == "else" { self::nodes(parts, &["end"]).0 } else { Vec::new() };
                Node::If { when, then, otherwise }
            }
            Some(("range", over)) => {
                let (name, over) = over.split_once(":=").map_or((None, over), |(name, over)| (Some(name), over));
                let name = name.map(|name| name.trim().to_owned());
                Node::Range { name, over: pipe(over), body: self::nodes(parts, &["end"]).0 }
            }
            Some((name, to)) if name.starts_with('$') && to.starts_with([':', '=']) => {
                let (sign, to) = to.split_once(' ').expect("a value");
                Node::Set { name: name.to_owned(), is_new: sign == ":=", to: pipe(to) }
            }
            _ => Node::Print(pipe(&action)),
        });
    }
    assert!(ends.is_empty(), "no `end`");
    (nodes, String::new())
}

fn pipe(text: &str) -> Pipe {
    let mut rest = text;
    let pipe = commands(&mut rest);
    assert!(rest.is_empty(), "`{rest}` of `{text}` is not understood");
    pipe
}

/// Reads commands up to the end, or to a closing bracket.
fn commands(rest: &mut &str) -> Pipe {
    let mut pipe = vec![Vec::new()];
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next().filter(|first| *first != ')') else { return pipe };
        let end = rest.find([' ', ')', '|']).unwrap_or(rest.len());
        let word = &rest[..end];
        let term = match first {
            '|' => {
                *rest = &rest[1..];
                pipe.push(Vec::new());
                continue;
            }
            '(' => {
                *rest = &rest[1..];
                let inner = commands(rest);
                *rest = rest.strip_prefix(')').expect("a closing bracket");
                pipe.last_mut().expect("a command").push(Term::Pipe(inner));
                continue;
            }
            '"' => {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter();
                let value: Value = values.next().expect("a string").expect("a string as JSON has it");
                let end = values.byte_offset();
                *rest = &rest[end..];
                pipe.last_mut().expect("a command").push(Term::Value(value));
                continue;
            }
            '.' => Term::Path(word.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()),
            '$' => Term::Variable(word.to_owned()),
            '0'..='9' => Term::Value(json!(word.parse::<i64>().expect("a number"))),
            _ => Term::Function(word.to_owned()),
        };
        *rest = &rest[end..];
        pipe.last_mut().expect("a command").push(term);
    }
}

type Variables = Vec<(String, Value)>;

fn write(nodes: &[Node], dot: &Value, variables: &mut Variables, out: &mut String) {
    // What is made in a block ends with it.
    let before = variables.len();
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipe) => out.push_str(&text(&run(pipe, dot, variables))),
            Node::Set { name, is_new, to } => {
                let value = run(to, dot, variables);
                if *is_new {
                    variables.push((name.clone(), value));
                } else {
                    let known = variables.iter_mut().rev().find(|(known, _)| known == name);
                    known.unwrap_or_else(|| panic!("`{name}` is nothing")).1 = value;
                }
            }
            Node::If { when, then, otherwise } => {
                let nodes = if is_true(&run(when, dot, variables)) { then } else { otherwise };
                write(nodes, dot, variables, out);
            }
            Node::Range { name, over, body } => {
                for item in list(&run(over, dot, variables)) {
                    variables.extend(name.iter().map(|name| (name.clone(), item.clone())));
                    write(body, &item, variables, out);
                    variables.truncate(variables.len() - name.iter().len());
                }
            }
        }
    }
    variables.truncate(before);
}

fn run(pipe: &Pipe, dot: &Value, variables: &Variables) -> Value {
    let mut last = None;
    for command in pipe {
        let value = |term: &Term| match term {
            Term::Value(value) => value.clone(),
            Term::Path(path) => path.iter().fold(dot.clone(), |at, name| {
                at.get(name).unwrap_or_else(|| panic!("there is no `{name}` of `{}`", path.join("."))).clone()
            }),
            Term::Variable(name) => {
                let known = variables.iter().rev().find(|(known, _)| known == name);
                known.unwrap_or_else(|| panic!("`{name}` is nothing")).1.clone()
            }
            Term::Pipe(pipe) => run(pipe, dot, variables),
            Term::Function(name) => call(name, &[]),
        };
        last = Some(match command.split_first().expect("a command says something") {
            (Term::Function(name), arguments) => {
                let arguments: Vec<Value> = arguments.iter().map(value).chain(last).collect();
                call(name, &arguments)
            }
            (term, []) if last.is_none() => value(term),
            _ => panic!("only a function takes arguments"),
        });
    }
    last.expect("a command")
}

fn call(name: &str, arguments: &[Value]) -> Value {
    match (name, arguments) {
        ("not", [value]) => json!(!is_true(value)),
        ("quote", [value]) => json!(json!(text(value)).to_string()),
        ("default", [otherwise, value]) => if is_true(value) { value } else { otherwise }.clone(),
        ("required", [message, value]) => {
            assert!(!value.is_null() && *value != "", "{}", text(message));
            value.clone()
        }
        ("fail", [message]) => panic!("{}", text(message)),
        ("int", [value]) => json!(value.as_i64().expect("a number")),
        ("add1", [value]) => json!(value.as_i64().expect("a number") + 1),
        ("until", [count]) => (0..count.as_i64().expect("a number")).collect(),
        ("join", [between, items]) => json!(list(items).iter().map(text).collect::<Vec<_>>().join(&text(between))),
        ("has", [item, items]) => json!(list(items).contains(item)),
        ("concat", lists) => lists.iter().flat_map(list).collect(),
        ("uniq", [items]) => {
            let mut once = Vec::new();
            for item in list(items) {
                if !once.contains(&item) {
                    once.push(item);
                }
            }
            once.into()
        }
        ("printf", [format, rest @ ..]) => {
            let (format, mut rest) = (text(format), rest.iter());
            let mut pieces = format.split('%');
            let mut out = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                assert!(piece.starts_with(['s', 'd']), "`%{piece}` is not known");
                out.push_str(&text(rest.next().expect("a value for each `%`")));
                out.push_str(&piece[1..]);
            }
            assert!(rest.next().is_none(), "a `%` for each value of `{format}`");
            json!(out)
        }
        _ => panic!("`{name}` with {} arguments is not known", arguments.len()),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => panic!("{value} is no text"),
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expect: &str) {
        let root = json!({"Values": {"names": ["a", "b"], "none": [], "yes": true, "number": 2, "text": "x\"y"}});
        assert_eq!(render_text(template, &root), expect, "{template}");
    }

    #[test]
    fn what_the_chart_says_is_rendered_as_helm_renders_it() {
        check("a\n  {{- if .Values.yes }}\nb\n{{- else }}\nc\n{{- end }}\nd", "a\nb\nd");
        check("a {{- if not .Values.none }} b {{- end }}", "a b");
        check(
            "{{ .Values.text | quote }} {{ printf \"%s-%d\" .Values.text (add1 .Values.number) }}",
            "\"x\\\"y\" x\"y-3",
        );
        check("{{- range .Values.names }}\n- {{ . | quote }}\n{{- end }}", "\n- \"a\"\n- \"b\"");
        check("{{ range uniq (concat .Values.names .Values.none .Values.names) }}{{ . }}{{ end }}", "ab");
        check("{{ join \",\" .Values.names }}{{ .Values.none | join \"\" | default \"z\" }}", "a,bz");
        check(
            "{{- $n := 0 }}{{- if .Values.yes }}{{- $n = int .Values.number }}{{- end }}{{ range $a := .Values.names }}{{ range $i := until $n }}{{ $a }}{{ $i }} {{ end }}{{ end }}",
            "a0 a1 b0 b1 ",
        );
    }

    #[test]
    #[should_panic(expected = "`toYaml` with 1 arguments is not known")]
    fn what_is_not_known_here_is_named() {
        check("{{ toYaml .Values }}", "");
    }

    #[test]
    #[should_panic(expected = "set cluster.roles")]
    fn the_chart_wants_roles() {
        render("rbac.yaml", &json!({"cluster": {"roles": []}}), "cairn");
    }

    #[test]
    fn the_relay_may_impersonate_the_chart_s_names_and_no_others() {
        let values = json!({"cluster": {"roles": ["view"], "anyUser": true, "groups": ["devs"], "actAs": {"users": ["bot"]}}, "bindings": {"namespaces": 2}});
        let text = render("rbac.yaml", &values, "cairn");
        let groups =
            text.split("resources: [\"groups\"]").nth(1).expect("groups").split("- apiGroups").next().expect("a rule");
        let names: Vec<&str> = groups.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
        assert_eq!(names, ["\"cairn-role:view\"", "\"cairn-role:view@1\"", "\"cairn-role:view@2\"", "\"cairn:devs\""]);
        assert!(text.contains("namespace: cairn\n") && !text.contains("{{"), "{text}");
    }
}
