//! Every operation that exists, each with the permission that it needs. The name is also the handler, the OpenAPI operation id, the
//! audit verb and the span. What people do to their own sessions and factors is in `account.rs`, what agents and
//! relays do in `fleet.rs`.

use crate::Permission;

/// Whether an operation changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Changes nothing; is not recorded in the audit log.
    Read,
    /// Changes something; commits only with its audit record.
    Write,
}

/// What a person must have shown to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A live session.
    Session,
    /// A live session and, within the last minutes, a password or a second factor: for secrets, roles and keys.
    Fresh,
}

/// An operation as a type.
pub trait Operation: Send + Sync + 'static {
    /// `noun_verb`.
    const NAME: &'static str;
    /// What it needs.
    const PERMISSION: Permission;
    /// Read or write.
    const MODE: Mode;
    /// Whether a session alone is enough.
    const PROOF: Proof;
}

/// An operation on one tenant's data.
pub trait TenantOperation: Operation {}
/// An operation on the installation.
pub trait PlatformOperation: Operation {}
/// An operation that changes nothing.
pub trait ReadOperation: Operation {}
/// An operation that changes something.
pub trait WriteOperation: Operation {}

/// An operation as a row of the golden table.
#[derive(Debug, Clone, Copy)]
pub struct OperationInfo {
    /// `noun_verb`.
    pub name: &'static str,
    /// What it needs.
    pub permission: Permission,
    /// Read or write.
    pub mode: Mode,
    /// Whether a session alone is enough.
    pub proof: Proof,
    /// Whether it acts on the platform and not in a tenant.
    pub platform: bool,
}

macro_rules! operations {
    (@scope tenant $op:ident) => { impl TenantOperation for ops::$op {} };
    (@scope platform $op:ident) => { impl PlatformOperation for ops::$op {} };
    (@mode Read $op:ident) => { impl ReadOperation for ops::$op {} };
    (@mode Write $op:ident) => { impl WriteOperation for ops::$op {} };
    (@platform tenant) => { false };
    (@platform platform) => { true };
    (@proof) => { Proof::Session };
    (@proof fresh) => { Proof::Fresh };
    ($($op:ident $name:literal $scope:ident $mode:ident $permission:ident $($proof:ident)?;)*) => {
        /// The operations, one type each.
        pub mod ops {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[derive(Debug)]
                pub struct $op;
            )*
        }

        $(
            impl Operation for ops::$op {
                const NAME: &'static str = $name;
                const PERMISSION: Permission = Permission::$permission;
                const MODE: Mode = Mode::$mode;
                const PROOF: Proof = operations!(@proof $($proof)?);
            }
            operations!(@scope $scope $op);
            operations!(@mode $mode $op);
        )*

        /// Every operation.
        pub fn operations() -> &'static [OperationInfo] {
            &[$(OperationInfo {
                name: $name,
                permission: Permission::$permission,
                mode: Mode::$mode,
                proof: operations!(@proof $($proof)?),
                platform: operations!(@platform $scope),
            },)*]
        }
    };
}

// `fresh` behind an operation: it needs a fresh proof (see `Proof::Fresh`).
operations! {
    TenantCreate "tenant_create" platform Write TenantsManage fresh;
    TenantDelete "tenant_delete" platform Write TenantsManage fresh;
    TenantList "tenant_list" platform Read TenantsManage;
    UserCreate "user_create" platform Write SystemAdmin fresh;
    UserList "user_list" platform Read SystemAdmin;
    UserUpdate "user_update" platform Write SystemAdmin fresh;
    UserFactorsReset "user_factors_reset" platform Write SystemAdmin fresh;
    DataKeyList "data_key_list" platform Read SystemAdmin;
    DataKeyRotate "data_key_rotate" platform Write SystemAdmin fresh;
    PlatformKeyReseal "platform_key_reseal" platform Write SystemAdmin;
    MasterKeyRotate "master_key_rotate" platform Write SystemAdmin;
    SigningKeyRotate "signing_key_rotate" platform Write SystemAdmin;
    PlatformAuditList "platform_audit_list" platform Read SystemAdmin;
    BackupCreate "backup_create" platform Write SystemAdmin;
    BackupRestore "backup_restore" platform Write SystemAdmin;
    RestoreAccept "restore_accept" platform Write SystemAdmin;
    ProviderList "provider_list" platform Read SystemAdmin;
    ProviderCreate "provider_create" platform Write SystemAdmin fresh;
    ProviderUpdate "provider_update" platform Write SystemAdmin fresh;
    ProviderDelete "provider_delete" platform Write SystemAdmin fresh;
    ScimTokenCreate "scim_token_create" platform Write SystemAdmin fresh;
    ScimTokenDelete "scim_token_delete" platform Write SystemAdmin fresh;

    MemberList "member_list" tenant Read UsersManage;
    MemberPut "member_put" tenant Write UsersManage fresh;
    MemberDelete "member_delete" tenant Write UsersManage fresh;
    InvitationDelete "invitation_delete" tenant Write UsersManage;
    SignInPolicyShow "sign_in_policy_show" tenant Read UsersManage;
    SignInPolicyPut "sign_in_policy_put" tenant Write UsersManage fresh;
    TargetPolicyShow "target_policy_show" tenant Read JobsManage;
    TargetPolicyPut "target_policy_put" tenant Write UsersManage fresh;
    GroupRoleList "group_role_list" tenant Read UsersManage;
    GroupRolePut "group_role_put" tenant Write UsersManage fresh;
    GroupRoleDelete "group_role_delete" tenant Write UsersManage fresh;

    ApiKeyList "api_key_list" tenant Read UsersManage;
    ApiKeyCreate "api_key_create" tenant Write UsersManage fresh;
    ApiKeyRotate "api_key_rotate" tenant Write UsersManage fresh;
    ApiKeyRevoke "api_key_revoke" tenant Write UsersManage;

    AgentList "agent_list" tenant Read FleetManage;
    AgentLabel "agent_label" tenant Write FleetManage;
    AgentRevoke "agent_revoke" tenant Write FleetManage;
    RelayList "relay_list" tenant Read FleetManage;
    RelayLabel "relay_label" tenant Write FleetManage;
    RelayRevoke "relay_revoke" tenant Write FleetManage;
    RelayFollow "relay_follow" tenant Write FleetManage;
    RelayPolicyShow "relay_policy_show" tenant Read FleetManage;
    RelayPolicyPut "relay_policy_put" tenant Write FleetManage fresh;
    EnrollmentTokenList "enrollment_token_list" tenant Read FleetManage;
    EnrollmentTokenCreate "enrollment_token_create" tenant Write FleetManage fresh;
    EnrollmentTokenRevoke "enrollment_token_revoke" tenant Write FleetManage;

    DestinationList "destination_list" tenant Read AccessManage;
    DestinationUpdate "destination_update" tenant Write AccessManage fresh;
    DestinationDelete "destination_delete" tenant Write AccessManage;
    SshHostShow "ssh_host_show" tenant Read AccessManage;
    SshHostPut "ssh_host_put" tenant Write AccessManage fresh;
    SshHostCertificateCreate "ssh_host_certificate_create" tenant Write AccessManage fresh;
    HostSetShow "host_set_show" tenant Read AccessManage;
    HostSetPut "host_set_put" tenant Write AccessManage fresh;
    GroupList "group_list" tenant Read AccessManage;
    GroupCreate "group_create" tenant Write AccessManage fresh;
    GroupDelete "group_delete" tenant Write AccessManage;
    GroupMemberAdd "group_member_add" tenant Write AccessManage fresh;
    GroupMemberRemove "group_member_remove" tenant Write AccessManage;
    GrantList "grant_list" tenant Read AccessManage;
    GrantCreate "grant_create" tenant Write AccessManage fresh;
    GrantDelete "grant_delete" tenant Write AccessManage;
    AccessWho "access_who" tenant Read AccessManage;
    AccessWhat "access_what" tenant Read AccessManage;
    AccessRequestList "access_request_list" tenant Read AccessManage;
    AccessRequestApprove "access_request_approve" tenant Write AccessManage fresh;
    AccessRequestDeny "access_request_deny" tenant Write AccessManage;
    AccessReviewCreate "access_review_create" tenant Write AccessManage fresh;
    AccessReviewClose "access_review_close" tenant Write AccessManage fresh;
    AccessExport "access_export" tenant Read AccessManage;
    AccessPlan "access_plan" tenant Read AccessManage;
    AccessApply "access_apply" tenant Write AccessManage fresh;
    AccessPolicyShow "access_policy_show" tenant Read AccessManage;
    AccessPolicyPut "access_policy_put" tenant Write AccessManage fresh;
    RecordingPolicyShow "recording_policy_show" tenant Read RecordingsRead;
    RecordingPolicyPut "recording_policy_put" tenant Write AccessManage fresh;

    RecordingList "recording_list" tenant Read RecordingsRead;
    RecordingRead "recording_read" tenant Write RecordingsRead fresh;
    RecordingExport "recording_export" tenant Write RecordingsRead fresh;
    RecordingClose "recording_close" tenant Write AccessManage;
    RecordingDelete "recording_delete" tenant Write AccessManage;

    CredentialList "credential_list" tenant Read CredentialsManage;
    CredentialCreate "credential_create" tenant Write CredentialsManage fresh;
    CredentialDelete "credential_delete" tenant Write CredentialsManage fresh;
    CredentialResolve "credential_resolve" tenant Read JobsManage;
    DataKeyReseal "data_key_reseal" tenant Write CredentialsManage;
    CredentialUse "credential_use" tenant Write JobsManage;
    SshHostKeyList "ssh_host_key_list" tenant Read JobsManage;
    SshHostKeyPin "ssh_host_key_pin" tenant Write CredentialsManage fresh;
    SshHostKeyRemove "ssh_host_key_remove" tenant Write CredentialsManage fresh;
    SshHostKeyMeet "ssh_host_key_meet" tenant Write JobsManage;

    JobList "job_list" tenant Read JobsManage;
    JobCreate "job_create" tenant Write JobsManage;
    JobCancel "job_cancel" tenant Write JobsManage;
    JobRun "job_run" tenant Write JobsManage;
    ScheduleList "schedule_list" tenant Read JobsManage;
    ScheduleCreate "schedule_create" tenant Write JobsManage;
    ScheduleUpdate "schedule_update" tenant Write JobsManage;
    ScheduleDelete "schedule_delete" tenant Write JobsManage;
    ValidationList "validation_list" tenant Read JobsManage;
    ValidationCreate "validation_create" tenant Write JobsManage;
    ValidationRun "validation_run" tenant Write JobsManage;

    NodeList "node_list" tenant Read NodesRead;
    EdgeList "edge_list" tenant Read NodesRead;
    GraphOverview "graph_overview" tenant Read NodesRead;
    GraphIngest "graph_ingest" tenant Write NodesWrite;

    CoverageList "coverage_list" tenant Read FindingsRead;

    FindingList "finding_list" tenant Read FindingsRead;
    FindingAccept "finding_accept" tenant Write FindingsWrite;
    FindingReopen "finding_reopen" tenant Write FindingsWrite;
    FindingResolve "finding_resolve" tenant Write FindingsWrite;
    FindingChange "finding_change" tenant Write FindingsWrite;
    ControlList "control_list" tenant Read FindingsRead;

    ChangesShow "changes_show" tenant Read ChangesRead;

    EvaluationRun "evaluation_run" tenant Write AuditRun;

    EvidenceList "evidence_list" tenant Read EvidenceRead;
    EvidenceExport "evidence_export" tenant Write EvidenceRead;
    EvidenceCollect "evidence_collect" tenant Write EvidenceWrite;

    AuditList "audit_list" tenant Read LogsRead;
    AuditExport "audit_export" tenant Write LogsRead;
    PlatformAuditExport "platform_audit_export" platform Write SystemAdmin;
    LogRead "log_read" tenant Read LogsRead;
    PlatformLogRead "platform_log_read" platform Read SystemAdmin;
    LogCosign "log_cosign" tenant Write LogsRead;
    PlatformLogCosign "platform_log_cosign" platform Write SystemAdmin;
    ForwardList "forward_list" platform Read SystemAdmin;
    WitnessList "witness_list" platform Read SystemAdmin;
    WitnessAdd "witness_add" platform Write SystemAdmin fresh;
    WitnessRemove "witness_remove" platform Write SystemAdmin fresh;
}
