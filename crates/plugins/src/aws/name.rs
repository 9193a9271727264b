//! One spelling for every name: lower snake case.

/// `DBInstanceIdentifier` -> `db_instance_identifier`. A word begins at an upper-case letter after a lower-case letter or digit, and at
/// the last letter of an upper-case run that goes on in lower case; a plural `s` after a run belongs to it (`ARNs` -> `arns`).
pub(crate) fn snake(name: &str) -> String {
    let name = name.replace("IPv", "Ipv");
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') && i + 1 < chars.len() {
                out.push('_');
            }
            continue;
        }
        if c.is_ascii_uppercase() {
            let next = chars.get(i + 1).copied().unwrap_or(' ');
            let plural = next == 's' && !chars.get(i + 2).is_some_and(char::is_ascii_lowercase);
            let before = i.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or('_');
            let word = !before.is_ascii_uppercase() || (next.is_ascii_lowercase() && !plural);
            if word && !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_lower_snake_case_by_one_rule() {
        for (api, property) in [
            ("PublicIpAddress", "public_ip_address"),
            ("VpcId", "vpc_id"),
            ("vpcId", "vpc_id"),
            ("DBInstanceIdentifier", "db_instance_identifier"),
            ("MFADevices", "mfa_devices"),
            ("KMSMasterKeyID", "kms_master_key_id"),
            ("S3BucketName", "s3_bucket_name"),
            ("Ipv6CidrBlock", "ipv6_cidr_block"),
            ("IPv6", "ipv6"),
            ("DomainNameARNs", "domain_name_arns"),
            ("ARNsOfX", "arns_of_x"),
            ("Status", "status"),
            ("AWSService", "aws_service"),
            ("access_logs.s3.enabled", "access_logs_s3_enabled"),
            ("aws:SourceArn", "aws_source_arn"),
            ("already_snake", "already_snake"),
            ("password_last_used", "password_last_used"),
            ("EBSOptimized", "ebs_optimized"),
            ("DBParameterGroups", "db_parameter_groups"),
            ("", ""),
        ] {
            assert_eq!(snake(api), property);
        }
    }
}
