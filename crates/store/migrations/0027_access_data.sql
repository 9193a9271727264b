-- Access as data: when a grant was used, what a file of grants owns, and which cluster a destination is.

-- To the hour: noted when a token or a certificate rests on it. Not used since this is written: null.
ALTER TABLE access_grant ADD COLUMN last_used_at BIGINT;
-- The name of the file (`cairn apply`) that keeps it; null: nobody's.
ALTER TABLE access_grant ADD COLUMN managed_by TEXT;
ALTER TABLE access_group ADD COLUMN managed_by TEXT;
ALTER TABLE access_group_member ADD COLUMN managed_by TEXT;
ALTER TABLE group_role ADD COLUMN managed_by TEXT;
-- SHA-256 of the certificate of the cluster's own authority, in hex, by its relay's word: by it a cluster that was discovered is known again.
ALTER TABLE destination ADD COLUMN cluster_sha256 TEXT;
CREATE INDEX access_grant_by_selector ON access_grant (tenant_id) WHERE selector IS NOT NULL;
