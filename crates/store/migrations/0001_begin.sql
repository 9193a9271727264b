-- One text for both engines. `migrate.rs` maps the types for SQLite (UUID and BYTEA to BLOB, BIGINT to INTEGER, BOOLEAN to INTEGER), and
-- runs lines that begin with `--sqlite ` or `--pg ` on that engine only. Every table with a `tenant_id` gets row-level security on
-- PostgreSQL, forced, from `migrate.rs`. Times are milliseconds since 1970.

CREATE TABLE installation (
  name TEXT NOT NULL PRIMARY KEY,
  value BYTEA NOT NULL
) STRICT;

CREATE TABLE tenant (
  id UUID NOT NULL PRIMARY KEY,
  slug TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  deleted_at BIGINT
) STRICT;

CREATE TABLE app_user (
  id UUID NOT NULL PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password_hash TEXT,
  must_change_password BOOLEAN NOT NULL,
  platform_admin BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  disabled_at BIGINT
) STRICT;

CREATE TABLE session (
  id UUID NOT NULL PRIMARY KEY,
  user_id UUID NOT NULL REFERENCES app_user (id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  ip TEXT
) STRICT;
CREATE INDEX session_by_user ON session (user_id);

CREATE TABLE member (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  user_id UUID NOT NULL REFERENCES app_user (id),
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, user_id)
) STRICT;
CREATE INDEX member_by_user ON member (user_id);

-- The audit log. `entry` is canonical JSON (RFC 8785), `leaf` its RFC 6962 leaf hash; the tenant of zeros is the platform's own log.
CREATE TABLE audit_record (
  tenant_id UUID NOT NULL,
  seq BIGINT NOT NULL,
  id UUID NOT NULL,
  at BIGINT NOT NULL,
  category TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  actor TEXT NOT NULL,
  object_type TEXT NOT NULL,
  object_id TEXT NOT NULL,
  entry BYTEA NOT NULL,
  leaf BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, seq)
) STRICT;

-- What `entry` only commits to (SHA-256 of salt and detail), so that it can be erased one day while every proof still verifies.
CREATE TABLE audit_detail (
  tenant_id UUID NOT NULL,
  seq BIGINT NOT NULL,
  salt BYTEA NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (tenant_id, seq),
  FOREIGN KEY (tenant_id, seq) REFERENCES audit_record (tenant_id, seq)
) STRICT;

CREATE TABLE audit_head (
  tenant_id UUID NOT NULL PRIMARY KEY,
  size BIGINT NOT NULL
) STRICT;

--sqlite CREATE TRIGGER audit_record_no_update BEFORE UPDATE ON audit_record BEGIN SELECT RAISE(ABORT, 'audit records cannot be changed'); END;
--sqlite CREATE TRIGGER audit_record_no_delete BEFORE DELETE ON audit_record BEGIN SELECT RAISE(ABORT, 'audit records cannot be deleted'); END;
--sqlite CREATE TRIGGER audit_detail_no_update BEFORE UPDATE ON audit_detail BEGIN SELECT RAISE(ABORT, 'audit records cannot be changed'); END;
--sqlite CREATE TRIGGER audit_detail_no_delete BEFORE DELETE ON audit_detail BEGIN SELECT RAISE(ABORT, 'audit records cannot be deleted'); END;

-- A tenant's data-encryption keys, sealed by the installation's master key.
CREATE TABLE data_key (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  version BIGINT NOT NULL,
  sealed BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, version)
) STRICT;

CREATE TABLE credential (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  plugin TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  key_version BIGINT NOT NULL,
  sealed BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  last_used_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, plugin, name),
  FOREIGN KEY (tenant_id, key_version) REFERENCES data_key (tenant_id, version)
) STRICT;

CREATE TABLE schedule (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  plugin TEXT NOT NULL,
  credential_id UUID,
  config TEXT NOT NULL,
  interval_s BIGINT NOT NULL,
  next_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
) STRICT;

-- A job keeps its credential's id after the credential is gone, so there is no foreign key.
CREATE TABLE job (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  plugin TEXT NOT NULL,
  credential_id UUID,
  schedule_id UUID,
  config TEXT NOT NULL,
  status TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  finished_at BIGINT,
  cancel_requested BOOLEAN NOT NULL,
  planned BOOLEAN NOT NULL,
  error TEXT,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX job_by_schedule ON job (tenant_id, schedule_id);

CREATE TABLE task (
  tenant_id UUID NOT NULL,
  id UUID NOT NULL,
  job_id UUID NOT NULL,
  key TEXT NOT NULL,
  params TEXT NOT NULL,
  status TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  done BIGINT NOT NULL,
  total BIGINT NOT NULL,
  message TEXT NOT NULL,
  error TEXT,
  started_at BIGINT,
  finished_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, job_id, key),
  FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)
) STRICT;

-- What workers claim: ids and times only, so that a worker sees no tenant's data before it acts in that tenant. A schedule stands here
-- too (`kind` = 'schedule'), due at its next run. `lease_id` is new with every claim: only its holder may write the outcome.
CREATE TABLE work (
  id UUID NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  owner_tenant UUID NOT NULL,
  due_at BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  cancel BOOLEAN NOT NULL,
  lease_id UUID,
  lease_owner TEXT,
  lease_until BIGINT
) STRICT;
CREATE INDEX work_by_due ON work (due_at);

-- What one task brought back for one scope: the process half of evidence.
CREATE TABLE collection (
  tenant_id UUID NOT NULL,
  id UUID NOT NULL,
  job_id UUID NOT NULL,
  task_id UUID NOT NULL,
  scope_key UUID NOT NULL,
  scope TEXT NOT NULL,
  coverage TEXT NOT NULL,
  reason TEXT,
  nodes BIGINT NOT NULL,
  edges BIGINT NOT NULL,
  calls TEXT NOT NULL,
  call_count BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  evidence_id UUID,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, task_id, scope_key),
  FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)
) STRICT;
CREATE INDEX collection_by_scope ON collection (tenant_id, scope_key, finished_at);
CREATE INDEX collection_by_job ON collection (tenant_id, job_id);
CREATE INDEX collection_by_evidence ON collection (tenant_id, evidence_id);

-- What is known of a scope: when a task last came to its end (`seen_at`), and when one last saw it completely, which is the last time that
-- its open nodes were seen.
CREATE TABLE scope (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  scope TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  complete_at BIGINT,
  collection_id UUID NOT NULL,
  PRIMARY KEY (tenant_id, key)
) STRICT;

-- The graph as it is now. `key` is the first 128 bits of SHA-256 over a prefix and `id`; `observed` is false for a node that an edge
-- names and no scope has shown; `hash` is over what a version holds; `last_seen` is set when it closes (until then its scope knows).
-- The graph's indexes but for the primary keys do not begin with the tenant: PostgreSQL without statistics believes that a tenant is a few
-- rows, and would look keys up by reading all entries of the tenant.
CREATE TABLE node (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  id TEXT NOT NULL,
  type TEXT NOT NULL,
  region TEXT NOT NULL,
  name TEXT NOT NULL,
  properties TEXT NOT NULL,
  tags TEXT NOT NULL,
  hash UUID NOT NULL,
  scope_key UUID NOT NULL,
  observed BOOLEAN NOT NULL,
  first_seen BIGINT NOT NULL,
  valid_from BIGINT NOT NULL,
  closed_at BIGINT,
  last_seen BIGINT,
  PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX node_by_type ON node (type, tenant_id, key);
CREATE INDEX node_by_scope ON node (scope_key, tenant_id) WHERE closed_at IS NULL;

CREATE TABLE node_version (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  valid_from BIGINT NOT NULL,
  valid_to BIGINT NOT NULL,
  name TEXT NOT NULL,
  properties TEXT NOT NULL,
  tags TEXT NOT NULL,
  PRIMARY KEY (tenant_id, key, valid_from),
  FOREIGN KEY (tenant_id, key) REFERENCES node (tenant_id, key)
) STRICT;

-- `key` is the first 128 bits of SHA-256 over a prefix, both ends, the type and the discriminator.
CREATE TABLE edge (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  source_key UUID NOT NULL,
  type TEXT NOT NULL,
  target_key UUID NOT NULL,
  discriminator TEXT NOT NULL,
  properties TEXT NOT NULL,
  hash UUID NOT NULL,
  scope_key UUID NOT NULL,
  valid_from BIGINT NOT NULL,
  closed_at BIGINT,
  PRIMARY KEY (tenant_id, key),
  FOREIGN KEY (tenant_id, source_key) REFERENCES node (tenant_id, key),
  FOREIGN KEY (tenant_id, target_key) REFERENCES node (tenant_id, key)
) STRICT;
CREATE INDEX edge_by_source ON edge (source_key, tenant_id);
CREATE INDEX edge_by_target ON edge (target_key, tenant_id);
CREATE INDEX edge_by_scope ON edge (scope_key, tenant_id) WHERE closed_at IS NULL;

CREATE TABLE edge_version (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  valid_from BIGINT NOT NULL,
  valid_to BIGINT NOT NULL,
  properties TEXT NOT NULL,
  PRIMARY KEY (tenant_id, key, valid_from),
  FOREIGN KEY (tenant_id, key) REFERENCES edge (tenant_id, key)
) STRICT;

-- What a scope shows of a node or an edge that another scope owns: it takes over when the owner no longer shows it.
CREATE TABLE node_claim (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  scope_key UUID NOT NULL,
  since BIGINT NOT NULL,
  name TEXT NOT NULL,
  properties TEXT NOT NULL,
  tags TEXT NOT NULL,
  hash UUID NOT NULL,
  PRIMARY KEY (tenant_id, key, scope_key),
  FOREIGN KEY (tenant_id, key) REFERENCES node (tenant_id, key)
) STRICT;
CREATE INDEX node_claim_by_scope ON node_claim (scope_key, tenant_id);

CREATE TABLE edge_claim (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  scope_key UUID NOT NULL,
  since BIGINT NOT NULL,
  properties TEXT NOT NULL,
  hash UUID NOT NULL,
  PRIMARY KEY (tenant_id, key, scope_key),
  FOREIGN KEY (tenant_id, key) REFERENCES edge (tenant_id, key)
) STRICT;
CREATE INDEX edge_claim_by_scope ON edge_claim (scope_key, tenant_id);

CREATE TABLE finding (
  tenant_id UUID NOT NULL,
  id UUID NOT NULL,
  rule_id TEXT NOT NULL,
  node_key UUID NOT NULL,
  status TEXT NOT NULL,
  severity TEXT NOT NULL,
  risk BIGINT NOT NULL,
  message TEXT NOT NULL,
  facts TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  resolved_at BIGINT,
  resolution TEXT,
  accepted_by TEXT,
  accepted_reason TEXT,
  accepted_until BIGINT,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, rule_id, node_key),
  FOREIGN KEY (tenant_id, node_key) REFERENCES node (tenant_id, key)
) STRICT;
CREATE INDEX finding_by_node ON finding (tenant_id, node_key);
CREATE INDEX finding_by_risk ON finding (tenant_id, risk DESC, id);

CREATE TABLE evaluation (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  at BIGINT NOT NULL,
  ruleset BYTEA NOT NULL,
  rules BIGINT NOT NULL,
  nodes BIGINT NOT NULL,
  passed BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  errors BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;

CREATE TABLE control_result (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  framework TEXT NOT NULL,
  control TEXT NOT NULL,
  result TEXT NOT NULL,
  passed BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  errors BIGINT NOT NULL,
  evaluated_at BIGINT NOT NULL,
  evidence_id UUID,
  PRIMARY KEY (tenant_id, framework, control)
) STRICT;

-- Collected bytes; the bytes themselves are in the blob store under their digest.
CREATE TABLE artifact (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  digest BYTEA NOT NULL,
  size BIGINT NOT NULL,
  signature BYTEA NOT NULL,
  key_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, digest)
) STRICT;

-- A signed statement: `pae` is the exact bytes that were signed.
CREATE TABLE evidence (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  kind TEXT NOT NULL,
  scope TEXT,
  framework TEXT,
  control TEXT,
  finding_id UUID,
  pae BYTEA NOT NULL,
  signature BYTEA NOT NULL,
  key_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX evidence_by_control ON evidence (tenant_id, framework, control);
CREATE INDEX evidence_by_finding ON evidence (tenant_id, finding_id);

-- Which collections' statements a judgement rests on.
CREATE TABLE evidence_basis (
  tenant_id UUID NOT NULL,
  evidence_id UUID NOT NULL,
  basis_id UUID NOT NULL,
  PRIMARY KEY (tenant_id, evidence_id, basis_id),
  FOREIGN KEY (tenant_id, evidence_id) REFERENCES evidence (tenant_id, id),
  FOREIGN KEY (tenant_id, basis_id) REFERENCES evidence (tenant_id, id)
) STRICT;

-- Which artifacts a statement is about; `about` names the one resource that a call asked about.
CREATE TABLE evidence_artifact (
  tenant_id UUID NOT NULL,
  evidence_id UUID NOT NULL,
  digest BYTEA NOT NULL,
  about TEXT NOT NULL,
  PRIMARY KEY (tenant_id, evidence_id, digest, about),
  FOREIGN KEY (tenant_id, evidence_id) REFERENCES evidence (tenant_id, id),
  FOREIGN KEY (tenant_id, digest) REFERENCES artifact (tenant_id, digest)
) STRICT;
