-- Which special addresses a tenant's jobs may reach.

-- `networks`: JSON, a list of networks. Without a row: none.
CREATE TABLE target_policy (
  tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenant (id),
  networks TEXT NOT NULL,
  changed_at BIGINT NOT NULL
) STRICT;
