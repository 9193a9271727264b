//! Messages: text with `{{ CEL }}` in it.

use crate::cel::{CelError, Machine, Program, Scope};

/// A checked message.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Value(Program),
}

impl Template {
    /// Checks a message; the error's place is an offset into it.
    pub(crate) fn compile(text: &str, scope: Scope<'_>) -> Result<Self, CelError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((before, after)) = rest.split_once("{{") else {
                parts.push(Part::Text(rest.to_owned()));
                break;
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let from = at + before.len() + 2;
            let Some((inner, _)) = after.split_once("}}") else {
                return Err(CelError { at: from - 2, message: "`{{` is not closed by `}}`".to_owned() });
            };
            let blanks = inner.len() - inner.trim_start().len();
            let program = Program::compile(inner.trim(), scope)
                .map_err(|error| CelError { at: from + blanks + error.at, message: error.message })?;
            parts.push(Part::Value(program));
            at = from + inner.len() + 2;
        }
        Ok(Self { parts })
    }

    /// The message about a node; what cannot be evaluated reads `unknown`.
    pub(crate) fn render<'a>(&'a self, machine: &mut Machine<'a>) -> String {
        const CHARS: usize = 500;
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(program) => match program.eval(machine) {
                    Ok(value) => out.push_str(&value.display()),
                    Err(_) => out.push_str("unknown"),
                },
            }
        }
        if let Some((end, _)) = out.char_indices().nth(CHARS) {
            out.truncate(end);
            out.push('…');
        }
        out
    }
}
