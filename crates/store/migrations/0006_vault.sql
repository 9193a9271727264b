-- The vault: data keys with versions that count their seals, a register of every sealed value, a head over it, and signing keys.

-- The installation's own data keys: what `data_key` holds for a tenant.
CREATE TABLE platform_key (
  version BIGINT NOT NULL PRIMARY KEY,
  sealed BYTEA NOT NULL,
  seals BIGINT NOT NULL,
  created_at BIGINT NOT NULL
) STRICT;

-- How many values a data key has sealed: random nonces are good for far fewer than 2^32.
ALTER TABLE data_key ADD COLUMN seals BIGINT NOT NULL DEFAULT 0;

-- One row for every sealed value, wherever it stands: which version of it is the newest, and under which key. `cell` is `table.column`,
-- `tag` a keyed hash over the place and the sealed bytes. The tenant of zeros is the platform.
CREATE TABLE vault_entry (
  tenant_id UUID NOT NULL,
  cell TEXT NOT NULL,
  row_id TEXT NOT NULL,
  row_version BIGINT NOT NULL,
  key_version BIGINT NOT NULL,
  tag BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, cell, row_id)
) STRICT;
CREATE INDEX vault_entry_by_key ON vault_entry (tenant_id, key_version);

-- The state of a tenant's (or the platform's) vault in one number that only grows, with a keyed hash over it and the sum of its entries.
CREATE TABLE vault_head (
  tenant_id UUID NOT NULL PRIMARY KEY,
  counter BIGINT NOT NULL,
  sum BYTEA NOT NULL,
  tag BYTEA NOT NULL
) STRICT;

-- Keys that sign, one role each. A key that was replaced keeps its public half, so that what it signed still verifies.
CREATE TABLE signing_key (
  role TEXT NOT NULL,
  version BIGINT NOT NULL,
  public BYTEA NOT NULL,
  sealed BYTEA,
  created_at BIGINT NOT NULL,
  retired_at BIGINT,
  PRIMARY KEY (role, version)
) STRICT;
