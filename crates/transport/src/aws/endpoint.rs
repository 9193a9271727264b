//! Where a service answers, and which addresses an `endpoint_url` may name.

use std::net::IpAddr;

use crate::guard::Guard;
use crate::{AwsCall, CallError};

/// A family of regions with their own accounts and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in ARNs.
    pub id: &'static str,
    /// What host names end with.
    pub suffix: &'static str,
    /// Where global services sign.
    pub home: &'static str,
}

const PARTITIONS: &[(&str, Partition)] = &[
    ("cn-", Partition { id: "aws-cn", suffix: "amazonaws.com.cn", home: "cn-north-1" }),
    ("us-gov-", Partition { id: "aws-us-gov", suffix: "amazonaws.com", home: "us-gov-west-1" }),
    ("us-isob-", Partition { id: "aws-iso-b", suffix: "sc2s.sgov.gov", home: "us-isob-east-1" }),
    ("us-iso-", Partition { id: "aws-iso", suffix: "c2s.ic.gov", home: "us-iso-east-1" }),
    ("eusc-", Partition { id: "aws-eusc", suffix: "amazonaws.eu", home: "eusc-de-east-1" }),
];
const COMMERCIAL: Partition = Partition { id: "aws", suffix: "amazonaws.com", home: "us-east-1" };

/// The partition of a region.
pub fn partition(region: &str) -> Partition {
    PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or(COMMERCIAL, |(_, partition)| *partition)
}

/// Global services whose host or signing region is not `<prefix>.<home region>.<suffix>`: partition, service, host, signing region.
const GLOBAL: &[(&str, &str, &str, &str)] = &[
    ("aws", "iam", "iam.amazonaws.com", "us-east-1"),
    ("aws", "sts", "sts.amazonaws.com", "us-east-1"),
    ("aws", "route53", "route53.amazonaws.com", "us-east-1"),
    ("aws", "cloudfront", "cloudfront.amazonaws.com", "us-east-1"),
    ("aws-cn", "route53", "route53.amazonaws.com.cn", "cn-northwest-1"),
    ("aws-cn", "cloudfront", "cloudfront.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
    ("aws-cn", "organizations", "organizations.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
    ("aws-cn", "account", "account.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
    ("aws-us-gov", "iam", "iam.us-gov.amazonaws.com", "us-gov-west-1"),
    ("aws-us-gov", "route53", "route53.us-gov.amazonaws.com", "us-gov-west-1"),
];

/// Host and signing region of a call in its partition.
pub(crate) fn host(call: &AwsCall) -> (String, String) {
    let partition = partition(&call.region);
    if call.global_endpoint
        && let Some((_, _, host, region)) = GLOBAL.iter().find(|row| row.0 == partition.id && row.1 == call.service)
    {
        return ((*host).to_owned(), (*region).to_owned());
    }
    // S3 has one name space but no global endpoint: its calls go where they say.
    let region = if call.global_endpoint && call.service != "s3" { partition.home } else { &call.region };
    let prefix = call.endpoint_prefix.as_deref().unwrap_or(&call.service);
    (format!("{prefix}.{region}.{}", partition.suffix), region.to_owned())
}

/// Checks an `endpoint_url`: HTTPS anywhere that is not forbidden, plain HTTP only to this machine, no user, path, query or fragment.
pub(crate) fn check_override(text: &str, guard: &Guard) -> Result<reqwest::Url, CallError> {
    let wrong = |why: &str| CallError::Unreachable(format!("`endpoint_url` {why}"));
    let url = reqwest::Url::parse(text).map_err(|_| wrong("is not a URL such as `https://host:port`"))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>().ok();
    let local = address.is_some_and(|ip| ip.is_loopback()) || host.eq_ignore_ascii_case("localhost");
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err(wrong("uses plain http to another machine: use https")),
        _ => return Err(wrong("uses neither https nor http")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user name: remove it"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than scheme, host and port: remove the rest"));
    }
    let port = url.port_or_known_default().unwrap_or_default();
    guard.check_host(host, port).map_err(|refused| CallError::Denied(format!("`endpoint_url`: {refused}")))?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(service: &str, prefix: Option<&str>, region: &str, global: bool) -> AwsCall {
        AwsCall {
            service: service.to_owned(),
            endpoint_prefix: prefix.map(str::to_owned),
            region: region.to_owned(),
            global_endpoint: global,
            operation: "X".to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query: vec![],
            headers: vec![],
            body: vec![],
        }
    }

    #[test]
    fn endpoints_follow_the_partition() {
        for (service, prefix, region, global, host_name, signed) in [
            ("ec2", None, "eu-west-1", false, "ec2.eu-west-1.amazonaws.com", "eu-west-1"),
            ("ecr", Some("api.ecr"), "us-east-2", false, "api.ecr.us-east-2.amazonaws.com", "us-east-2"),
            ("iam", None, "eu-west-1", true, "iam.amazonaws.com", "us-east-1"),
            ("iam", None, "us-gov-east-1", true, "iam.us-gov.amazonaws.com", "us-gov-west-1"),
            ("iam", None, "cn-northwest-1", true, "iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("organizations", None, "eu-west-1", true, "organizations.us-east-1.amazonaws.com", "us-east-1"),
            ("s3", None, "eu-west-1", true, "s3.eu-west-1.amazonaws.com", "eu-west-1"),
            ("ec2", None, "cn-north-1", false, "ec2.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ] {
            assert_eq!(host(&call(service, prefix, region, global)), (host_name.to_owned(), signed.to_owned()));
        }
    }

    #[test]
    fn metadata_and_loopback_are_refused_however_they_are_spelled() {
        for bad in [
            "http://169.254.169.254",
            "https://169.254.169.254",
            "https://[fd00:ec2::254]",
            "https://[::ffff:a9fe:a9fe]",
            "https://0xa9fea9fe",
            "https://2852039166",
            "https://0.0.0.0",
            "https://[fe80::1]",
            "http://10.0.0.1",
            "http://example.com",
            "http://127.0.0.1.nip.io",
            "ftp://127.0.0.1",
            "https://user:pass@example.com",
            "https://example.com/path",
            "https://example.com/?q",
            "nonsense",
        ] {
            assert!(check_override(bad, &Guard::loopback(true)).is_err(), "{bad}");
        }
        for local in [
            "http://127.0.0.1:5000",
            "http://localhost:5000",
            "http://0x7f000001",
            "http://2130706433",
            "https://[::1]",
        ] {
            assert!(check_override(local, &Guard::loopback(true)).is_ok(), "{local}");
            assert!(check_override(local, &Guard::default()).is_err(), "{local}");
        }
        assert!(check_override("https://vpce-1.ec2.eu-west-1.vpce.amazonaws.com", &Guard::default()).is_ok());
    }
}
