-- Destinations, groups of a tenant, and grants: who may reach what.

-- What a relay registered: it is that relay's until an administrator gives it to another one. `labels` are the tenant's to set, everything from
-- `authority` to `version` is what the relay says.
CREATE TABLE destination (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  relay_id UUID NOT NULL,
  labels TEXT NOT NULL,
  authority TEXT NOT NULL,
  address TEXT,
  namespaces TEXT NOT NULL,
  roles TEXT NOT NULL,
  version TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX destination_by_relay ON destination (tenant_id, relay_id);

-- A group of the tenant: its members are kept in `access_group_member`, or they are those of a provider's group. A provider that is gone feeds
-- nobody.
CREATE TABLE access_group (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  name TEXT NOT NULL,
  provider_id UUID,
  provider_group TEXT,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE access_group_member (
  tenant_id UUID NOT NULL,
  group_id UUID NOT NULL,
  user_id UUID NOT NULL REFERENCES app_user (id),
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, group_id, user_id),
  FOREIGN KEY (tenant_id, group_id) REFERENCES access_group (tenant_id, id)
) STRICT;
CREATE INDEX access_group_member_by_user ON access_group_member (tenant_id, user_id);

-- Either `user_id` or `group_id`; either `destination_id` or `selector`. `same`: subject, role, target, namespace and hours in one spelling, so that
-- nothing is granted twice; grants of requests and of broken glass have their own. An expired one is replaced or cleared away, and gives nothing.
CREATE TABLE access_grant (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  same TEXT NOT NULL,
  user_id UUID REFERENCES app_user (id),
  group_id UUID,
  role TEXT NOT NULL,
  destination_id UUID,
  selector TEXT,
  namespace TEXT,
  hours TEXT,
  reason TEXT NOT NULL,
  expires_at BIGINT,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, same),
  FOREIGN KEY (tenant_id, group_id) REFERENCES access_group (tenant_id, id),
  FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, id)
) STRICT;
CREATE INDEX access_grant_by_user ON access_grant (tenant_id, user_id);
CREATE INDEX access_grant_by_group ON access_grant (tenant_id, group_id);
CREATE INDEX access_grant_by_destination ON access_grant (tenant_id, destination_id);
