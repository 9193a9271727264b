-- Expired grants are looked for before each new one: without an index that reads all of them.
CREATE INDEX access_grant_by_expiry ON access_grant (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
