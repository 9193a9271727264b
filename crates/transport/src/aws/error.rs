//! Reading AWS errors: query and EC2 XML, S3 and rest-xml, JSON 1.0/1.1 and rest-json.

use std::collections::BTreeMap;

use quick_xml::events::Event;

use crate::CallError;

/// Longest message that is kept, in characters.
const MESSAGE_CHARS: usize = 500;

/// The service's code and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AwsError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// The region that the call belongs to, where the error names one (S3).
    pub(crate) region: Option<String>,
}

/// One line without control characters, cut.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS).collect::<String>().trim().to_owned()
}

fn from_xml(body: &str) -> BTreeMap<String, String> {
    let mut reader = quick_xml::Reader::from_str(body);
    let mut found = BTreeMap::new();
    let mut name = String::new();
    let mut text = String::new();
    // An error is short: what is still unread after this many events is not one.
    for _ in 0..200 {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                start.local_name().as_ref().clone_into(&mut name);
                text.clear();
            }
            Ok(Event::Text(piece)) => text.push_str(&piece.xml10_content()),
            Ok(Event::GeneralRef(reference)) => {
                text.push_str(&entity(&reference).unwrap_or_default());
            }
            Ok(Event::End(_)) => {
                if !name.is_empty() {
                    found.entry(std::mem::take(&mut name)).or_insert_with(|| std::mem::take(&mut text));
                }
            }
            Ok(Event::Eof | Event::DocType(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    found
}

/// The text of `&amp;`, `&#38;` and the like; nothing else is known.
pub(crate) fn entity(reference: &quick_xml::events::BytesRef<'_>) -> Option<String> {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return Some(c.to_string());
    }
    Some(
        match reference.xml10_content().as_ref() {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "apos" => "'",
            _ => return None,
        }
        .to_owned(),
    )
}

/// Reads the error that a reply with this status, these headers (lower case) and this body is.
pub(crate) fn read(status: u16, headers: &BTreeMap<String, String>, body: &[u8]) -> AwsError {
    let text = String::from_utf8_lossy(body);
    let mut region = headers.get("x-amz-bucket-region").cloned();
    let (mut code, mut message) = (None, None);
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(body) {
        let field = |names: &[&str]| names.iter().find_map(|name| object.get(*name)?.as_str().map(str::to_owned));
        code = field(&["__type", "code", "Code"]);
        message = field(&["message", "Message", "errorMessage"]);
    } else if text.trim_start().starts_with('<') {
        let mut found = from_xml(&text);
        code = found.remove("Code");
        message = found.remove("Message");
        region = region.or_else(|| found.remove("Region"));
    }
    if let Some(header) = headers.get("x-amzn-errortype") {
        code = Some(header.clone());
    }
    // `com.amazon.coral#Throttling`, `ValidationException:http://…`.
    let code = code.unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let code = if code.is_empty() { format!("HTTP{status}") } else { clean(code) };
    let message = message.map(|text| clean(&text)).filter(|text| !text.is_empty());
    AwsError {
        status,
        code,
        message: message.unwrap_or_else(|| "no message".to_owned()),
        region: region.map(|r| clean(&r)),
    }
}

impl AwsError {
    pub(crate) fn is_throttling(&self) -> bool {
        const CODES: &[&str] = &[
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "ProvisionedThroughputExceededException",
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "PriorRequestNotComplete",
            "TransactionInProgressException",
            "SlowDown",
        ];
        self.status == 429 || CODES.contains(&self.code.as_str())
    }

    /// Whether the same call may succeed soon.
    pub(crate) fn is_transient(&self) -> bool {
        // 501 is an answer: the operation is not there.
        matches!(self.status, 500 | 502..=504)
            || matches!(self.code.as_str(), "RequestTimeout" | "RequestTimeoutException")
    }

    pub(crate) fn is_expired_token(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "RequestExpired")
    }

    /// Whether S3 says that another region has the bucket.
    pub(crate) fn other_region(&self, region: &str) -> Option<String> {
        let says = matches!(
            self.code.as_str(),
            "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
        ) || matches!(self.status, 301 | 307);
        self.region.clone().filter(|other| {
            says && other != region
                && !other.is_empty()
                && other.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
    }

    /// What the caller can do about it.
    pub(crate) fn into_call_error(self) -> CallError {
        const CREDENTIAL: &[&str] = &[
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "InvalidToken",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "AuthFailure",
            "TokenRefreshRequired",
        ];
        const DENIED: &[&str] = &[
            "AccessDenied",
            "AccessDeniedException",
            "AuthorizationError",
            "UnauthorizedOperation",
            "NotAuthorized",
            "OptInRequired",
            "AllAccessDisabled",
        ];
        let Self { status, code, message, .. } = self;
        let named = format!("{code}: {message}");
        if CREDENTIAL.contains(&code.as_str()) {
            let hint = match code.as_str() {
                "RequestTimeTooSkewed" => ": compare this server's clock with the true time",
                "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => ": store fresh keys",
                _ => "",
            };
            CallError::Credential(format!("{named}{hint}"))
        } else if status == 429 {
            CallError::Throttled(named)
        } else if DENIED.contains(&code.as_str()) || matches!(status, 401 | 403) {
            CallError::Denied(named)
        } else if status == 404
            || code.starts_with("NoSuch")
            || code.ends_with("NotFound")
            || code.ends_with("NotFoundException")
            || code.ends_with("NotFoundFault")
        {
            CallError::NotFound(named)
        } else {
            CallError::Api { status, code, message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, headers: &[(&str, &str)], body: &str) -> AwsError {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        read(status, &headers, body.as_bytes())
    }

    #[test]
    fn every_protocol_is_read() {
        let query = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>a &lt;b&gt;</Message></Error></ErrorResponse>";
        assert_eq!(error(404, &[], query).into_call_error(), CallError::NotFound("NoSuchEntity: a <b>".to_owned()));
        let ec2 = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
        assert_eq!(error(403, &[], ec2).into_call_error(), CallError::Denied("UnauthorizedOperation: no".to_owned()));
        let json = r#"{"__type":"com.amazonaws.x#ThrottlingException","message":"Rate exceeded"}"#;
        assert!(error(400, &[], json).is_throttling());
        let rest = error(400, &[("x-amzn-errortype", "ValidationException:http://x")], r#"{"Message":"bad"}"#);
        assert_eq!((rest.code.as_str(), rest.message.as_str()), ("ValidationException", "bad"));
        let expired = error(400, &[], r#"{"__type":"ExpiredTokenException","message":"x"}"#);
        assert!(expired.is_expired_token());
        assert!(matches!(expired.into_call_error(), CallError::Credential(text) if text.contains("store fresh keys")));
        let moved = error(
            301,
            &[("x-amz-bucket-region", "eu-west-1")],
            "<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>",
        );
        assert_eq!(moved.other_region("us-east-1").as_deref(), Some("eu-west-1"));
        assert_eq!(moved.other_region("eu-west-1"), None);
        assert_eq!(error(301, &[("x-amz-bucket-region", "evil.example/")], "").other_region("us-east-1"), None);
        assert_eq!(error(502, &[], "<html>oops").code, "HTTP502");
        assert!(error(503, &[], "\u{0}\u{1b}[31m").is_transient());
    }

    #[test]
    fn words_are_cut_and_have_no_control_characters() {
        let long = error(400, &[], &format!(r#"{{"code":"X","message":"\u001b[31m{}"}}"#, "a".repeat(10_000)));
        assert!(long.message.chars().count() <= 500 && !long.message.contains('\u{1b}'));
    }
}
