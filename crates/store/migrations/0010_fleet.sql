-- Agents and relays: tokens that enroll them, what is known of each, their credentials, and which of them have ended.

-- Whoever names a token's public id sees that one row: that is how the tenant of an enrollment becomes known. `raced_at`: when somebody else
-- tried to use it at the same moment, which is recorded once.
CREATE TABLE enrollment_token (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  lookup TEXT NOT NULL UNIQUE,
  hash BYTEA NOT NULL,
  kind TEXT NOT NULL,
  labels TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  used_at BIGINT,
  used_by UUID,
  raced_at BIGINT,
  PRIMARY KEY (tenant_id, id)
) STRICT;

-- `number` and `proof_id`: of the last proof that was written down as used. See `store/src/fleet_credential.rs`.
CREATE TABLE fleet_unit (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  public_key BYTEA NOT NULL,
  labels TEXT NOT NULL,
  version TEXT NOT NULL,
  enrolled_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  cloned_at BIGINT,
  last_seen_at BIGINT,
  last_seen_ip TEXT,
  number BIGINT NOT NULL,
  proof_id TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX fleet_unit_by_name ON fleet_unit (tenant_id, kind, name) WHERE revoked_at IS NULL;
CREATE INDEX fleet_unit_by_kind ON fleet_unit (tenant_id, kind, id);

-- One is in use; a newer one is not used yet, or older ones were replaced.
CREATE TABLE fleet_credential (
  tenant_id UUID NOT NULL,
  id UUID NOT NULL,
  unit_id UUID NOT NULL,
  hash TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  first_used_at BIGINT,
  superseded_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, unit_id) REFERENCES fleet_unit (tenant_id, id)
) STRICT;
CREATE INDEX fleet_credential_by_unit ON fleet_credential (tenant_id, unit_id);

-- For servers on which somebody hangs who has ended: ids and times, and nothing of a tenant's.
CREATE TABLE fleet_ending (
  unit_id UUID NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  at BIGINT NOT NULL
) STRICT;
CREATE INDEX fleet_ending_by_time ON fleet_ending (at);
