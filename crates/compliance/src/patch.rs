//! What somebody can run or apply to make a node comply: a text of the rule's with values of the finding in it.
//!
//! Values come from what was collected, so whoever names a bucket or a user chooses them. Each is quoted by itself, in the language of the text;
//! a text in which quoting would not hold (inside of quotes, comments or here-documents) is refused when the rules are loaded, and a value that
//! cannot be shown and pasted safely makes no patch.

use std::fmt;

use serde_json::Value as Json;

use crate::schema::{did_you_mean, suggestion};

/// Longest value, in characters.
const VALUE_CHARS: usize = 512;
/// Most values of a list.
const VALUE_ITEMS: usize = 50;

/// The language of a patch, and so how values are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Commands for a POSIX shell.
    Shell,
    /// Terraform's configuration language.
    Terraform,
}

impl Form {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Terraform => "terraform",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "shell" => Ok(Self::Shell),
            "terraform" => Ok(Self::Terraform),
            _ => Err(format!("`{}` is no form of a patch: use shell or terraform", text.escape_debug())),
        }
    }
}

/// A checked patch of a rule.
#[derive(Debug)]
pub struct Patch {
    /// Its language.
    pub form: Form,
    /// Where and as whom it is run, for people.
    pub place: String,
    /// The text as written.
    pub text: String,
    parts: Vec<Part>,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Id,
    Called,
    Region,
    Resource,
    Value(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Called => f.write_str("node.name"),
            Self::Region => f.write_str("node.region"),
            Self::Resource => f.write_str("node.resource"),
            Self::Value(name) => write!(f, "values.{name}"),
        }
    }
}

#[derive(Debug)]
enum Part {
    Text(String),
    Placeholder {
        name: Name,
        /// It stands between blanks, so it may be several words, and a word that begins like an option would be taken for one.
        alone: bool,
    },
}

/// What a patch is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The node.
    pub node: &'a domain::NodeId,
    /// Its name.
    pub node_name: &'a str,
    /// The finding's values.
    pub values: &'a Json,
}

/// Where a text stands while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Single,
    Double,
    Comment,
}

/// Follows the quotes and comments of a text, well enough to tell where a value may stand.
struct Reader {
    form: Form,
    state: State,
    /// The character before; a blank at the beginning.
    last: char,
    escaped: bool,
}

impl Reader {
    const fn new(form: Form) -> Self {
        Self { form, state: State::Plain, last: ' ', escaped: false }
    }

    /// Reads on; refuses what would make quoted values mean something else.
    fn read(&mut self, text: &str) -> Result<(), (usize, &'static str)> {
        for (at, c) in text.char_indices() {
            if self.escaped {
                self.escaped = false;
                self.last = 'x';
                continue;
            }
            match (self.state, c) {
                (State::Plain, '\\') if self.form == Form::Shell => self.escaped = true,
                (State::Double, '\\') => self.escaped = true,
                (State::Plain, '\'') if self.form == Form::Shell => self.state = State::Single,
                (State::Single, '\'') | (State::Double, '"') | (State::Comment, '\n') => self.state = State::Plain,
                (State::Plain, '"') => self.state = State::Double,
                (State::Plain, '#') if self.last.is_whitespace() || self.form == Form::Terraform => {
                    self.state = State::Comment;
                }
                (State::Plain, '/') if self.form == Form::Terraform && self.last == '/' => self.state = State::Comment,
                (State::Plain, '*') if self.form == Form::Terraform && self.last == '/' => {
                    return Err((at, "comments over several lines are not read here: begin each line with `#`"));
                }
                (State::Plain, '<') if self.last == '<' => {
                    return Err((at, "here-documents are not quoted: use printf, or a string"));
                }
                (State::Plain, '`') => return Err((at, "backticks are not read here: use $(...)")),
                _ => {}
            }
            self.last = c;
        }
        Ok(())
    }

    fn may_take_a_value(&self) -> Result<(), &'static str> {
        match self.state {
            _ if self.escaped => Err("a backslash stands before the placeholder: take it away"),
            State::Single | State::Double => {
                Err("a value is quoted by itself: take the quotes around the placeholder away")
            }
            State::Comment => Err("a placeholder in a comment does nothing: take it away"),
            State::Plain if self.form == Form::Shell && self.last == '$' => {
                Err("a `$` stands before the placeholder: take it away")
            }
            State::Plain => Ok(()),
        }
    }
}

impl Patch {
    /// Checks a patch; the error's place is an offset into the text. `values`: the names of the rule's values.
    pub(crate) fn compile(form: Form, place: &str, text: &str, values: &[&str]) -> Result<Self, (usize, String)> {
        let mut parts = Vec::new();
        let mut reader = Reader::new(form);
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let (before, after) = match rest.split_once("{{") {
                None => (rest, None),
                Some((before, after)) => (before, Some(after)),
            };
            reader.read(before).map_err(|(offset, message)| (at + offset, message.to_owned()))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some(after) = after else { break };
            let from = at + before.len();
            let Some((inner, behind)) = after.split_once("}}") else {
                return Err((from, "`{{` is not closed by `}}`".to_owned()));
            };
            reader.may_take_a_value().map_err(|message| (from, message.to_owned()))?;
            let name = placeholder(inner.trim(), values).map_err(|message| (from, message))?;
            let alone = reader.last.is_whitespace()
                && behind.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ';' | ')' | '|' | '&'));
            reader.last = 'x';
            parts.push(Part::Placeholder { name, alone });
            at = from + 2 + inner.len() + 2;
        }
        if reader.state == State::Single || reader.state == State::Double {
            return Err((text.len().saturating_sub(1), "a quote is not closed".to_owned()));
        }
        Ok(Self { form, place: place.to_owned(), text: text.to_owned(), parts })
    }

    /// The patch for a finding, or why there is none.
    pub fn render(&self, about: About<'_>) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder { name, alone } => {
                    let text = |text: &str| Json::from(text);
                    let value = match name {
                        Name::Id => text(about.node.as_str()),
                        Name::Called => text(about.node_name),
                        Name::Region => text(about.node.region()),
                        Name::Resource => text(about.node.resource()),
                        Name::Value(of) => about.values.get(of).cloned().unwrap_or_default(),
                    };
                    let quoted = match self.form {
                        Form::Shell => shell(&value, *alone),
                        Form::Terraform => terraform(&value),
                    };
                    out.push_str(&quoted.map_err(|why| format!("`{name}` {why}"))?);
                }
            }
        }
        Ok(out)
    }
}

fn placeholder(name: &str, values: &[&str]) -> Result<Name, String> {
    Ok(match name {
        "node.id" => Name::Id,
        "node.name" => Name::Called,
        "node.region" => Name::Region,
        "node.resource" => Name::Resource,
        _ => match name.strip_prefix("values.") {
            Some(value) if values.contains(&value) => Name::Value(value.to_owned()),
            Some(value) => {
                let hint = did_you_mean(suggestion(value, values.iter().copied()));
                return Err(format!("the rule has no value `{}`{hint}", value.escape_debug()));
            }
            None => {
                return Err(format!(
                    "`{}` is no placeholder: use node.id, node.name, node.region, node.resource or values.NAME",
                    name.escape_debug()
                ));
            }
        },
    })
}

/// Text that can be shown and pasted as it is. A control character could end a line in a terminal, and an invisible one shows something else than
/// what is run.
fn plain(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.chars().count() > VALUE_CHARS {
        return Err(format!("is longer than {VALUE_CHARS} characters"));
    }
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    if text.chars().any(is_hidden) {
        return Err("holds a character that is not shown".to_owned());
    }
    Ok(text)
}

fn shell(value: &Json, alone: bool) -> Result<String, String> {
    match value {
        Json::Array(items) => {
            if !alone {
                return Err("is a list".to_owned());
            }
            if items.is_empty() {
                return Err("is empty".to_owned());
            }
            if items.len() > VALUE_ITEMS {
                return Err(format!("has more than {VALUE_ITEMS} items"));
            }
            let words: Vec<String> = items
                .iter()
                .map(|item| if item.is_array() { Err("is a list of lists".to_owned()) } else { shell(item, true) })
                .collect::<Result<_, _>>()?;
            Ok(words.join(" "))
        }
        Json::String(text) => {
            let text = plain(text)?;
            if alone && text.starts_with('-') {
                return Err("begins like an option".to_owned());
            }
            let is_safe =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@' | ',' | '+');
            if text.chars().all(is_safe) {
                return Ok(text.to_owned());
            }
            Ok(format!("'{}'", text.replace('\'', r"'\''")))
        }
        Json::Number(number) if !alone || !number.to_string().starts_with('-') => Ok(number.to_string()),
        Json::Number(_) => Err("begins like an option".to_owned()),
        Json::Bool(is) => Ok(is.to_string()),
        Json::Null => Err("was not read".to_owned()),
        Json::Object(_) => Err("is more than one value".to_owned()),
    }
}

fn terraform(value: &Json) -> Result<String, String> {
    match value {
        Json::Array(items) => {
            if items.len() > VALUE_ITEMS {
                return Err(format!("has more than {VALUE_ITEMS} items"));
            }
            let items: Vec<String> = items.iter().map(terraform).collect::<Result<_, _>>()?;
            Ok(format!("[{}]", items.join(", ")))
        }
        Json::String(text) => {
            let escaped =
                plain(text)?.replace('\\', r"\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
            Ok(format!("\"{escaped}\""))
        }
        Json::Number(number) => Ok(number.to_string()),
        Json::Bool(is) => Ok(is.to_string()),
        Json::Null => Err("was not read".to_owned()),
        Json::Object(_) => Err("is more than one value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn node() -> domain::NodeId {
        "aws:eu-west-1:aws.ec2.instance:i-0abc".parse().unwrap()
    }

    fn rendered(form: Form, text: &str, values: &Json) -> Result<String, String> {
        let names: Vec<&str> = values.as_object().unwrap().keys().map(String::as_str).collect();
        let patch = Patch::compile(form, "here", text, &names).unwrap();
        patch.render(About { node: &node(), node_name: "web; rm -rf /", values })
    }

    /// The words that a real shell makes of it.
    fn words(text: &str) -> Vec<String> {
        let script = format!("printf '%s\\0' {text}");
        let done = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{script}: {done:?}");
        let out = String::from_utf8(done.stdout).unwrap();
        out.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_patch_names_the_node_and_the_values() {
        let text = "aws x --region {{ node.region }} --id {{ node.resource }} --name {{ node.name }} --days {{ values.days }} --on {{values.on}}";
        assert_eq!(
            rendered(Form::Shell, text, &json!({"days": 7, "on": true})).unwrap(),
            "aws x --region eu-west-1 --id i-0abc --name 'web; rm -rf /' --days 7 --on true"
        );
        let text = "bucket = {{ node.name }}\ndays = {{ values.days }}\nids = {{ values.ids }}";
        assert_eq!(
            rendered(Form::Terraform, text, &json!({"days": 7, "ids": ["a", "b\"${file(\"/etc/passwd\")}\\"]}))
                .unwrap(),
            "bucket = \"web; rm -rf /\"\ndays = 7\nids = [\"a\", \"b\\\"$${file(\\\"/etc/passwd\\\")}\\\\\"]"
        );
    }

    #[test]
    fn names_that_attack_a_shell_stay_one_word() {
        let names = [
            "; rm -rf /",
            "$(reboot)",
            "`reboot`",
            "a' ; reboot ; '",
            "'\\''",
            "a\\",
            "\"",
            "*",
            "~root",
            "$HOME",
            "!!",
            "a && b || c",
            "a>b",
            "#comment",
            "{a,b}",
            " ",
            "ünïcode 日本",
        ];
        for name in names {
            let values = json!({"name": name, "names": [name, name]});
            assert_eq!(words(&rendered(Form::Shell, "{{ values.name }}", &values).unwrap()), [name]);
            assert_eq!(
                words(&rendered(Form::Shell, "/srv/{{ values.name }}.d", &values).unwrap()),
                [format!("/srv/{name}.d")]
            );
            assert_eq!(
                words(&rendered(Form::Shell, "a {{ values.names }} b", &values).unwrap()),
                ["a", name, name, "b"]
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_pasted_safely_makes_no_patch() {
        for (value, why) in [
            (json!("a\nreboot"), "not shown"),
            (json!("a\u{1b}[2J"), "not shown"),
            (json!("a\u{9b}31m"), "not shown"),
            (json!("safe\u{202e}evil"), "not shown"),
            (json!("a\u{200b}b"), "not shown"),
            (json!("a\u{e0041}"), "not shown"),
            (json!("x".repeat(513)), "longer"),
            (json!(""), "empty"),
            (json!([]), "empty"),
            (json!(null), "not read"),
            (json!({"a": 1}), "more than one value"),
            (json!([["a"]]), "list of lists"),
            (json!(["a", null]), "not read"),
            (json!("--no-sign-request"), "option"),
            (json!(["a", "-rf"]), "option"),
            (json!(-1), "option"),
            (json!(vec!["a"; 51]), "more than 50"),
        ] {
            let told = rendered(Form::Shell, "rm {{ values.v }}", &json!({"v": value})).unwrap_err();
            assert!(told.starts_with("`values.v` ") && told.contains(why), "{value}: {told}");
        }
        assert!(rendered(Form::Shell, "--a={{ values.v }}", &json!({"v": ["a"]})).unwrap_err().contains("is a list"));
        assert_eq!(rendered(Form::Shell, "--a={{ values.v }}", &json!({"v": "-x"})).unwrap(), "--a=-x");
        assert!(rendered(Form::Terraform, "a = {{ values.v }}", &json!({"v": "a\nb"})).is_err());
        assert!(rendered(Form::Terraform, "a = {{ values.v }}", &json!({"v": [null]})).is_err());
    }

    #[test]
    fn a_text_in_which_quoting_would_not_hold_is_refused_with_its_place() {
        for (form, text, at, why) in [
            (Form::Shell, "echo '{{ values.v }}'", 6, "take the quotes"),
            (Form::Shell, "echo \"a {{ values.v }}\"", 8, "take the quotes"),
            (Form::Shell, "echo # {{ values.v }}", 7, "comment"),
            (Form::Shell, "echo \\{{ values.v }}", 6, "backslash"),
            (Form::Shell, "echo ${{ values.v }}", 6, "`$`"),
            (Form::Shell, "cat <<EOF\n{{ values.v }}\nEOF", 5, "here-documents"),
            (Form::Shell, "echo `id` {{ values.v }}", 5, "backticks"),
            (Form::Shell, "echo 'a", 6, "not closed"),
            (Form::Shell, "echo {{ values.v", 5, "not closed"),
            (Form::Shell, "echo {{ values.w }}", 5, "no value `w`"),
            (Form::Shell, "echo {{ props.v }}", 5, "no placeholder"),
            (Form::Shell, "echo {{ node.tags }}", 5, "no placeholder"),
            (Form::Shell, "echo {{ }}", 5, "no placeholder"),
            (Form::Terraform, "a = \"{{ values.v }}\"", 5, "take the quotes"),
            (Form::Terraform, "a = <<EOT\n{{ values.v }}\nEOT", 5, "here-documents"),
            (Form::Terraform, "// {{ values.v }}", 3, "comment"),
            (Form::Terraform, "a = 1 #{{ values.v }}", 7, "comment"),
            (Form::Terraform, "/* {{ values.v }} */", 1, "several lines"),
        ] {
            let (place, told) = Patch::compile(form, "here", text, &["v"]).unwrap_err();
            assert!(place == at && told.contains(why), "{text}: {place} {told}");
        }
        assert!(
            Patch::compile(Form::Shell, "here", "echo 'it''s' \"x\" a\\'b a#b {{ values.v }} # done", &["v"]).is_ok()
        );
        assert!(Form::parse("bash").unwrap_err().contains("shell or terraform"));
    }

    proptest! {
        #[test]
        fn whatever_a_value_is_a_shell_sees_it_as_it_is_or_there_is_no_patch(value in "\\PC{1,40}") {
            if let Ok(text) = rendered(Form::Shell, "{{ values.v }}", &json!({"v": value})) {
                prop_assert_eq!(words(&text), [value]);
            }
        }
    }
}
