-- Sign-in with identity providers, and what they provision by SCIM. Providers and identities belong to the installation; which role a group gives
-- belongs to the tenant that gives it. What is sealed here are cells of the vault.

CREATE TABLE identity_provider (
  id UUID NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  issuer TEXT NOT NULL UNIQUE,
  client_id TEXT NOT NULL,
  client_secret BYTEA NOT NULL,
  scopes TEXT NOT NULL,
  groups_claim TEXT NOT NULL,
  scim_token BYTEA UNIQUE,
  created_at BIGINT NOT NULL
) STRICT;

-- Who somebody is at a provider: issuer and subject, never the address. A user has one identity at most. `tokens` are sealed and go when
-- there is nothing left to ask with; `asked_at` is the last try, `checked_at` the last answer.
CREATE TABLE identity (
  provider_id UUID NOT NULL REFERENCES identity_provider (id),
  subject TEXT NOT NULL,
  user_id UUID NOT NULL UNIQUE REFERENCES app_user (id),
  groups TEXT NOT NULL,
  tokens BYTEA,
  asked_at BIGINT NOT NULL,
  checked_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (provider_id, subject)
) STRICT;
CREATE INDEX identity_by_checked ON identity (checked_at);

-- States of sign-ins that came back: each is good once. Rows go when the state would have expired anyway.
CREATE TABLE login_used (
  state BYTEA NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL
) STRICT;

CREATE TABLE scim_user (
  provider_id UUID NOT NULL REFERENCES identity_provider (id),
  user_id UUID NOT NULL UNIQUE REFERENCES app_user (id),
  user_name TEXT NOT NULL,
  user_name_key TEXT NOT NULL,
  external_id TEXT,
  active BOOLEAN NOT NULL,
  document TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (provider_id, user_id),
  UNIQUE (provider_id, user_name_key)
) STRICT;
CREATE INDEX scim_user_by_external ON scim_user (provider_id, external_id);

CREATE TABLE scim_group (
  provider_id UUID NOT NULL REFERENCES identity_provider (id),
  id UUID NOT NULL,
  display_name TEXT NOT NULL,
  display_name_key TEXT NOT NULL,
  external_id TEXT,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (provider_id, id),
  UNIQUE (provider_id, display_name_key)
) STRICT;

CREATE TABLE scim_group_member (
  provider_id UUID NOT NULL,
  group_id UUID NOT NULL,
  user_id UUID NOT NULL,
  PRIMARY KEY (provider_id, group_id, user_id),
  FOREIGN KEY (provider_id, group_id) REFERENCES scim_group (provider_id, id),
  FOREIGN KEY (provider_id, user_id) REFERENCES scim_user (provider_id, user_id)
) STRICT;
CREATE INDEX scim_group_member_by_user ON scim_group_member (provider_id, user_id);

-- Which role a provider's group gives in a tenant.
CREATE TABLE group_role (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  provider_id UUID NOT NULL REFERENCES identity_provider (id),
  group_name TEXT NOT NULL,
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, provider_id, group_name)
) STRICT;
CREATE INDEX group_role_by_provider ON group_role (provider_id);

-- The provider whose groups gave this role and may take it; none: somebody gave it by hand.
ALTER TABLE member ADD COLUMN provider_id UUID REFERENCES identity_provider (id);
-- The provider that disabled this user and may enable them again; none: somebody did it by hand.
ALTER TABLE app_user ADD COLUMN disabled_by UUID REFERENCES identity_provider (id);
