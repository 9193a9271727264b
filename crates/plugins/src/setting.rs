//! What the settings of a job may be: said once by each plugin, for the forms of the console and for this check, which every plugin begins
//! with. Errors name the setting as their field.

use domain::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::JobConfig;

/// What the value of a setting is. Numbers and flags may also be given as text, lists as one text with commas between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SettingKind {
    /// A text of one line; the plugin says more.
    Text,
    /// A text of several lines.
    Lines,
    /// Texts; the plugin says more.
    List,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these.
    SomeOf(&'static [&'static str]),
    /// A whole number.
    Number {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// `true` or `false`.
    Flag,
}

/// A setting that a plugin understands.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Setting {
    /// Its key.
    pub key: &'static str,
    /// What it does, with unit and default.
    pub help: &'static str,
    /// An example value as text.
    pub example: &'static str,
    /// What its value is.
    pub kind: SettingKind,
    /// Whether a job has to give it.
    pub required: bool,
}

impl Setting {
    /// A setting that may be left out.
    pub(crate) const fn optional(
        key: &'static str,
        kind: SettingKind,
        help: &'static str,
        example: &'static str,
    ) -> Self {
        Self { key, help, example, kind, required: false }
    }

    /// A setting that a job has to give.
    pub(crate) const fn required(
        key: &'static str,
        kind: SettingKind,
        help: &'static str,
        example: &'static str,
    ) -> Self {
        Self { key, help, example, kind, required: true }
    }

    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::invalid(self.key, format!("`{}` {why}", self.key))
    }

    fn check(&self, value: &Value) -> Result<()> {
        match self.kind {
            SettingKind::Text | SettingKind::Lines => Ok(()),
            SettingKind::List => words(self.key, value).map(drop),
            SettingKind::OneOf(known) => {
                let text = match value {
                    Value::String(text) => text.clone(),
                    // `--set mode=1` is a number.
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => String::new(),
                };
                if known.contains(&text.as_str()) {
                    Ok(())
                } else {
                    Err(self.wrong(format!("is one of: {}", known.join(", "))))
                }
            }
            SettingKind::SomeOf(known) => {
                let items = words(self.key, value)?;
                match items.iter().find(|item| !known.contains(&item.as_str())) {
                    Some(unknown) => {
                        let unknown = shown(unknown);
                        Err(self.wrong(format!("has `{unknown}`, which is unknown: use some of {}", known.join(", "))))
                    }
                    None => Ok(()),
                }
            }
            SettingKind::Number { least, most } => match whole(value).filter(|it| (least..=most).contains(it)) {
                Some(_) => Ok(()),
                None if (least, most) == (i64::MIN, i64::MAX) => Err(self.wrong("is a whole number")),
                None => Err(self.wrong(format!("is a whole number from {least} to {most}"))),
            },
            SettingKind::Flag => match value {
                Value::Bool(_) => Ok(()),
                Value::String(text) if text == "true" || text == "false" => Ok(()),
                _ => Err(self.wrong("is true or false")),
            },
        }
    }
}

/// Checks a job's settings against what the plugin says of them.
pub fn check(plugin: &str, settings: &[Setting], config: &JobConfig) -> Result<()> {
    if let Some(unknown) = config.keys().find(|key| !settings.iter().any(|setting| setting.key == key.as_str())) {
        let known: Vec<&str> = settings.iter().map(|setting| setting.key).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it knows {}", known.join(", ")) };
        let message = format!("the plugin `{plugin}` has no setting `{}`: {known}", shown(unknown));
        return Err(Error::invalid("config", message));
    }
    settings.iter().try_for_each(|setting| match config.get(setting.key) {
        Some(value) => setting.check(value),
        None if setting.required => {
            Err(setting.wrong(format!("is missing: {}; for example `{}`", setting.help, setting.example)))
        }
        None => Ok(()),
    })
}

/// What somebody typed, short and without control characters.
fn shown(text: &str) -> String {
    text.escape_debug().take(100).collect()
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A number of a job, checked by [`check`]; `default` where there is none.
pub(crate) fn number(config: &JobConfig, key: &str, default: u32) -> u32 {
    config.get(key).and_then(whole).and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}

/// The items of a list, or of one text with commas between: at least one.
pub(crate) fn words(key: &'static str, value: &Value) -> Result<Vec<String>> {
    let words: Option<Vec<String>> = match value {
        Value::String(text) => {
            Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
        }
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        // `--set ports=22` is a number.
        Value::Number(number) => Some(vec![number.to_string()]),
        _ => None,
    };
    match words {
        None => Err(Error::invalid(key, format!("`{key}` is a list of texts, or one text with commas between"))),
        Some(words) if words.is_empty() => {
            Err(Error::invalid(key, format!("`{key}` is empty: leave it out to get the default")))
        }
        Some(words) => Ok(words),
    }
}

/// Some of `known`, in their order, each once: all where the job says nothing. Checked by [`check`].
pub(crate) fn some_of(config: &JobConfig, key: &'static str, known: &[&str]) -> Result<Vec<String>> {
    let named = config.get(key).map(|value| words(key, value)).transpose()?;
    let is_named = |name: &&&str| named.as_ref().is_none_or(|named| named.iter().any(|item| item == *name));
    Ok(known.iter().filter(is_named).map(|name| (*name).to_owned()).collect())
}

/// Where hosts, devices or networks stand: the region of their node ids.
pub(crate) fn site(config: &JobConfig) -> Result<String> {
    let Some(value) = config.get("site") else { return Ok("local".to_owned()) };
    value
        .as_str()
        .filter(|site| (1..=64).contains(&site.len()) && site.bytes().all(|b| b.is_ascii_graphic() && b != b':'))
        .map(str::to_owned)
        .ok_or_else(|| Error::invalid("site", "`site` is 1 to 64 printable ASCII characters without `:`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting::required("targets", SettingKind::List, "what to read", "a,b"),
        Setting::optional("mode", SettingKind::OneOf(&["strict", "first-use"]), "how", "strict"),
        Setting::optional("parts", SettingKind::SomeOf(&["a", "b", "c"]), "which", "a,b"),
        Setting::optional("most", SettingKind::Number { least: 1, most: 64 }, "how many", "8"),
        Setting::optional("deep", SettingKind::Flag, "whether", "true"),
        Setting::optional("any", SettingKind::Number { least: i64::MIN, most: i64::MAX }, "a number", "-1"),
    ];

    #[test]
    fn a_value_that_does_not_fit_is_an_error_of_its_setting_that_says_what_fits() {
        let checked = |config: Value| check("trial", SETTINGS, config.as_object().unwrap());
        for (config, field, message) in [
            (json!({}), "targets", "`targets` is missing: what to read; for example `a,b`"),
            (json!({"targets": " , "}), "targets", "`targets` is empty: leave it out to get the default"),
            (json!({"targets": [1]}), "targets", "`targets` is a list of texts, or one text with commas between"),
            (json!({"targets": "a", "mode": "any"}), "mode", "`mode` is one of: strict, first-use"),
            (
                json!({"targets": "a", "parts": "a,d"}),
                "parts",
                "`parts` has `d`, which is unknown: use some of a, b, c",
            ),
            (json!({"targets": "a", "most": 65}), "most", "`most` is a whole number from 1 to 64"),
            (json!({"targets": "a", "most": "few"}), "most", "`most` is a whole number from 1 to 64"),
            (json!({"targets": "a", "deep": "yes"}), "deep", "`deep` is true or false"),
            (json!({"targets": "a", "any": 0.5}), "any", "`any` is a whole number"),
            (
                json!({"targets": "a", "tar\u{1b}gets": "a"}),
                "config",
                "the plugin `trial` has no setting `tar\\u{1b}gets`: it knows targets, mode, parts, most, deep, any",
            ),
        ] {
            match checked(config.clone()).unwrap_err() {
                Error::Invalid { field: Some(of), message: is } => assert_eq!((of, is.as_str()), (field, message)),
                other => panic!("{config}: {other:?}"),
            }
        }
        checked(
            json!({"targets": ["a"], "mode": "strict", "parts": ["c", "a"], "most": "64", "deep": false, "any": -7}),
        )
        .unwrap();
        checked(json!({"targets": 22})).unwrap();
    }

    #[test]
    fn readers_take_what_the_check_lets_through() {
        let config = json!({"parts": "c, a", "most": "8"});
        let config = config.as_object().unwrap();
        assert_eq!(some_of(config, "parts", &["a", "b", "c"]).unwrap(), ["a", "c"]);
        assert_eq!(some_of(config, "others", &["a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!((number(config, "most", 4), number(config, "fewest", 4)), (8, 4));
    }
}
