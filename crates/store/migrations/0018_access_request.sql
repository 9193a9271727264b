-- Access that is asked for, and what a tenant allows in an emergency.

-- Until `closes_at` it waits. `state`: `pending`, `approved`, `denied` or `withdrawn`; one that waits no longer has expired, which nobody writes down.
CREATE TABLE access_request (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  user_id UUID NOT NULL REFERENCES app_user (id),
  destination_id UUID NOT NULL,
  role TEXT NOT NULL,
  namespace TEXT,
  duration_ms BIGINT NOT NULL,
  reason TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  closes_at BIGINT NOT NULL,
  decided_at BIGINT,
  decided_by TEXT,
  answer TEXT,
  grant_id UUID,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, id)
) STRICT;
CREATE INDEX access_request_by_user ON access_request (tenant_id, user_id, id);

-- Without a row, or without a group, nobody breaks glass.
CREATE TABLE access_policy (
  tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenant (id),
  request_ms_max BIGINT NOT NULL,
  glass_group_id UUID,
  glass_ms_max BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  FOREIGN KEY (tenant_id, glass_group_id) REFERENCES access_group (tenant_id, id)
) STRICT;
