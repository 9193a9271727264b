//! A `postgres://` URL in its parts.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;

/// `postgres://user:password@host:port/database?options`; user and password are kept decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) user: String,
    pub(super) password: String,
    /// Host and port as they were written.
    pub(super) authority: String,
    pub(super) database: String,
    /// With its `?`, or empty.
    pub(super) options: String,
}

impl Url {
    /// The same server for another role and database.
    pub(super) fn with(&self, user: &str, password: &str, database: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), database: database.to_owned(), ..self.clone() }
    }

    /// For a command line.
    pub(super) fn without_password(&self) -> String {
        format!("postgres://{}@{}/{}{}", encode(&self.user), self.authority, encode(&self.database), self.options)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authority, options, .. } = self;
        let (user, password, database) = (encode(&self.user), encode(&self.password), encode(&self.database));
        write!(f, "postgres://{user}:{password}@{authority}/{database}{options}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_password())
    }
}

impl FromStr for Url {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.context("a URL such as `postgres://postgres:password@127.0.0.1:5432/postgres` is needed")?;
        let (rest, options) = rest.find('?').map_or((rest, ""), |at| rest.split_at(at));
        let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, authority) =
            server.rsplit_once('@').context("the URL names no user: `postgres://user:password@…`")?;
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let database = if database.is_empty() { "postgres" } else { database };
        Ok(Self {
            user: decode(user)?,
            password: decode(password)?,
            authority: authority.to_owned(),
            database: decode(database)?,
            options: options.to_owned(),
        })
    }
}

/// Percent-encodes what RFC 3986 does not call unreserved.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decode(text: &str) -> anyhow::Result<String> {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.context("a `%` in the URL is not followed by two hex digits")?);
        out.extend(part.bytes().skip(2));
    }
    Ok(String::from_utf8(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_text_round_trip() {
        let text = "postgres://ann%40x:p%2Fw%3A%25@db.test:5433/my%20db?sslmode=disable";
        let url: Url = text.parse().unwrap();
        assert_eq!((url.user.as_str(), url.password.as_str(), url.database.as_str()), ("ann@x", "p/w:%", "my db"));
        assert_eq!(url.to_string(), text);
        assert_eq!(format!("{url:?}"), "postgres://ann%40x@db.test:5433/my%20db?sslmode=disable");
    }

    #[test]
    fn what_may_be_left_out_is_filled_in() {
        let url: Url = "postgresql://postgres@127.0.0.1".parse().unwrap();
        assert_eq!((url.password.as_str(), url.database.as_str()), ("", "postgres"));
        for bad in ["", "mysql://a@b/c", "postgres://host/db", "postgres://a:%zz@h/d"] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
