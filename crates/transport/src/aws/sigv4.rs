//! AWS Signature Version 4 with the signature in the `Authorization` header.

use std::fmt::Write as _;

use domain::{Digest, Timestamp};

/// What is signed.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Absolute and percent-encoded.
    pub(crate) path: &'a str,
    /// Whether the service wants the path encoded twice: all but S3.
    pub(crate) encode_path: bool,
    /// Not encoded.
    pub(crate) query: &'a [(String, String)],
    /// All headers that are sent, with `host`.
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body_digest: Digest,
}

/// Who signs, and for what.
pub(crate) struct Scope<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a [u8],
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) time: Timestamp,
}

/// Percent-encodes all but RFC 3986's unreserved characters, and all but `keep`.
pub fn encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The query in the order and spelling of the signature; also what is sent.
pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> = query.iter().map(|(k, v)| (encode(k, b""), encode(v, b""))).collect();
    pairs.sort();
    pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&")
}

/// `20150830T123600Z`.
pub(crate) fn amz_date(time: Timestamp) -> String {
    time.to_string().chars().filter(|c| !matches!(c, '-' | ':')).take(15).chain(['Z']).collect()
}

fn canonical_request(request: &Request<'_>) -> (String, String) {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    // Stable: values of one name stay in their order.
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        match merged.last_mut() {
            Some((last, values)) if *last == name => {
                values.push(',');
                values.push_str(&value);
            }
            _ => merged.push((name, value)),
        }
    }
    let signed = merged.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let path = if request.encode_path { encode(request.path, b"/") } else { request.path.to_owned() };
    let mut text = format!("{}\n{path}\n{}\n", request.method, canonical_query(request.query));
    for (name, value) in &merged {
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{signed}\n{}", request.body_digest);
    (text, signed)
}

/// The value of the `Authorization` header.
pub(crate) fn authorization(request: &Request<'_>, scope: &Scope<'_>) -> String {
    let date = amz_date(scope.time);
    let day: String = date.chars().take(8).collect();
    let (canonical, signed) = canonical_request(request);
    let credential_scope = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{credential_scope}\n{}", crypto::sha256(canonical.as_bytes()));
    let seed = domain::Secret::new([b"AWS4".as_slice(), scope.secret_access_key].concat());
    let mut key = crypto::hmac_sha256(seed.expose(), day.as_bytes());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = crypto::hmac_sha256(&key, part.as_bytes());
    }
    let signature = Digest(crypto::hmac_sha256(&key, to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{credential_scope}, SignedHeaders={signed}, Signature={signature}",
        scope.access_key_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, path, query, more headers, body, signature: AWS's published test suite for the key below.
    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        type Pairs = &'static [(&'static str, &'static str)];
        let suite: &[(&str, &str, &str, Pairs, Pairs, &str, &str)] = &[
            (
                "get-vanilla",
                "GET",
                "/",
                &[],
                &[],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                &[],
                &[],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/",
                &[("Param2", "value2"), ("Param1", "value1")],
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-query-unreserved",
                "GET",
                "/",
                &[(
                    "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                    "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                )],
                &[],
                "",
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "get-utf8",
                "GET",
                "/%E1%88%B4",
                &[],
                &[],
                "",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "get-vanilla-utf8-query",
                "GET",
                "/",
                &[("\u{1234}", "bar")],
                &[],
                "",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "get-header-value-trim",
                "GET",
                "/",
                &[],
                &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &[],
                &[("Content-Type", "application/x-www-form-urlencoded")],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (name, method, path, query, headers, body, expected) in suite {
            let pairs = |pairs: Pairs| -> Vec<(String, String)> {
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
            };
            let mut all = pairs(headers);
            all.push(("Host".to_owned(), "example.amazonaws.com".to_owned()));
            all.push(("X-Amz-Date".to_owned(), "20150830T123600Z".to_owned()));
            let request = Request {
                method,
                path,
                // The suite's path is encoded once already, and its expected value is for exactly that.
                encode_path: false,
                query: &pairs(query),
                headers: &all,
                body_digest: crypto::sha256(body.as_bytes()),
            };
            let scope = Scope {
                access_key_id: "AKIDEXAMPLE",
                secret_access_key: b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                region: "us-east-1",
                service: "service",
                time: "2015-08-30T12:36:00Z".parse().unwrap(),
            };
            let header = authorization(&request, &scope);
            assert!(header.ends_with(&format!("Signature={expected}")), "{name}: {header}");
        }
    }

    #[test]
    fn paths_are_encoded_twice_where_the_service_wants_it() {
        let request = Request {
            method: "GET",
            path: "/2017-03-31/tags/arn%3Aaws%3Alambda",
            encode_path: true,
            query: &[],
            headers: &[("host".to_owned(), "h".to_owned())],
            body_digest: crypto::sha256(b""),
        };
        assert!(
            canonical_request(&request)
                .0
                .starts_with("GET\n/2017-03-31/tags/arn%253Aaws%253Alambda\n\nhost:h\n\nhost\n")
        );
    }
}
