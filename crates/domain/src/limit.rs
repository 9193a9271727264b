//! A limit on everything that comes from outside.

/// The installation's limits. Each is also the default; `server` may lower or raise some by configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits;

impl Limits {
    /// Longest node id, in bytes.
    pub const NODE_ID_BYTES: usize = 1_024;
    /// Longest source id, in bytes.
    pub const SOURCE_ID_BYTES: usize = 128;
    /// Longest scope id, in bytes.
    pub const SCOPE_ID_BYTES: usize = 512;
    /// Largest properties object of a node or edge as JSON, in bytes.
    pub const PROPERTIES_BYTES: usize = 256 * 1_024;
    /// Deepest nesting of a properties object.
    pub const PROPERTIES_DEPTH: usize = 32;
    /// Most nodes plus edges in one page of observations.
    pub const PAGE_OBSERVATIONS: usize = 10_000;
    /// Largest reply that a target may send, in bytes.
    pub const REPLY_BYTES: usize = 64 * 1_024 * 1_024;
    /// Largest request body that the API accepts, in bytes.
    pub const BODY_BYTES: usize = 1_024 * 1_024;
    /// Most items on a page of a list.
    pub const LIST_ITEMS: u32 = 500;
    /// Items on a page of a list when the caller does not say.
    pub const LIST_ITEMS_DEFAULT: u32 = 100;
    /// Largest audit record as canonical JSON, in bytes (C2SP tlog-tiles bundles use a 16-bit length).
    pub const AUDIT_RECORD_BYTES: usize = 65_535;
    /// Longest name of a thing that people name, in characters.
    pub const NAME_CHARS: usize = 128;
    /// Most networks that an API key is limited to.
    pub const KEY_NETWORKS: usize = 32;
    /// Most networks of a tenant's target policy.
    pub const TARGET_NETWORKS: usize = 64;
    /// Most API keys of a tenant that are not revoked.
    pub const TENANT_KEYS: usize = 1_000;
    /// Most invitations of a tenant that wait.
    pub const TENANT_INVITATIONS: usize = 1_000;
    /// Most labels of an agent or a relay.
    pub const LABELS: usize = 32;
    /// Most enrollment tokens of a tenant that wait to be used.
    pub const TENANT_ENROLLMENT_TOKENS: usize = 1_000;
    /// Most agents and relays of a tenant that are not revoked.
    pub const TENANT_FLEET: usize = 100_000;
    /// Longest life of an enrollment token, in seconds: a week.
    pub const ENROLLMENT_TOKEN_S_MAX: u32 = 7 * 24 * 3_600;
    /// Shortest password, in characters.
    pub const PASSWORD_CHARS_MIN: usize = 12;
    /// Longest password, in bytes.
    pub const PASSWORD_BYTES_MAX: usize = 1_024;
}
