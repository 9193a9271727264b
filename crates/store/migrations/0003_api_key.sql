-- API keys, sessions of the command line, sign-ins on another device, and roles that wait for somebody to sign in.

-- A key is good while its owner could give its role: see `store/src/api_key.rs`.
CREATE TABLE api_key (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  owner_id UUID NOT NULL REFERENCES app_user (id),
  networks TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  last_used_at BIGINT,
  last_used_ip TEXT,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX api_key_by_name ON api_key (tenant_id, name) WHERE revoked_at IS NULL;

-- A key has one secret, and a second one while it is being rotated. Whoever names a secret's public id sees that one row: that is how the
-- tenant of a request becomes known. `lookup` is random and made here, so that it is unique tells nobody anything.
CREATE TABLE api_key_secret (
  tenant_id UUID NOT NULL,
  lookup TEXT NOT NULL UNIQUE,
  key_id UUID NOT NULL,
  hash TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  valid_until BIGINT,
  PRIMARY KEY (tenant_id, lookup),
  FOREIGN KEY (tenant_id, key_id) REFERENCES api_key (tenant_id, id)
) STRICT;
CREATE INDEX api_key_secret_by_key ON api_key_secret (tenant_id, key_id);

-- A session of the command line is a session like any other, so that whatever ends sessions ends it (also that it is idle); here is what it adds.
CREATE TABLE cli_session (
  session_id UUID NOT NULL PRIMARY KEY REFERENCES session (id),
  lookup TEXT NOT NULL UNIQUE,
  secret_hash BYTEA NOT NULL,
  client TEXT NOT NULL
) STRICT;

-- `session_id`: the session that approved it, which has to be alive when the device comes for its own.
CREATE TABLE device_login (
  id UUID NOT NULL PRIMARY KEY,
  device_hash BYTEA NOT NULL UNIQUE,
  user_hash BYTEA NOT NULL UNIQUE,
  client TEXT NOT NULL,
  ip TEXT,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  polled_at BIGINT,
  interval_ms BIGINT NOT NULL,
  session_id UUID REFERENCES session (id)
) STRICT;
CREATE INDEX device_login_by_expiry ON device_login (expires_at);

-- Whoever signs in as `email` sees the invitations to it: see `store/src/invitation.rs`.
CREATE TABLE invitation (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  email TEXT NOT NULL,
  role TEXT NOT NULL,
  invited_by UUID REFERENCES app_user (id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, email)
) STRICT;
CREATE INDEX invitation_by_email ON invitation (email);
