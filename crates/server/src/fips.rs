//! What a FIPS build may not be configured with.

use anyhow::bail;

/// Refuses a PostgreSQL password: the client library would use it with SHA-256, HMAC or MD5 of its own, outside of the module.
pub(crate) fn check_database(is_fips: bool, url: &str, password_in_environment: bool) -> anyhow::Result<()> {
    if !is_fips || !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Ok(());
    }
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let user = place.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map_or("", |(user, _)| user);
    let in_query = query.split('&').any(|pair| pair.starts_with("password="));
    if user.contains(':') || in_query || password_in_environment {
        bail!(
            "a FIPS build signs in to PostgreSQL without a password: use a client certificate (`sslcert` and `sslkey` in `database.url`) or peer \
             authentication, and take the password out of the URL and of PGPASSWORD (see docs/fips.md)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fips_build_takes_no_database_password_and_another_build_does() {
        let with = [
            "postgres://u:p@h/d",
            "postgresql://u:p@h/d?sslmode=require",
            "postgres://u@h/d?password=p",
            "postgres://u:@h/d",
        ];
        for url in with {
            assert!(check_database(true, url, false).unwrap_err().to_string().contains("client certificate"), "{url}");
            assert!(check_database(false, url, true).is_ok());
        }
        for url in ["sqlite:/x:y@z", "postgres://u@h/d?sslcert=c&sslkey=k", "postgres:///d?host=/run/postgresql"] {
            assert!(check_database(true, url, false).is_ok(), "{url}");
        }
        assert!(check_database(true, "postgres://u@h/d", true).is_err());
        assert!(check_database(true, "sqlite:x", true).is_ok());
    }
}
