-- Who reaches what is asked of a subject, of a place, or of both: each index below answers one of these without the tenant's other grants.

CREATE INDEX access_grant_by_user_place ON access_grant (tenant_id, user_id, destination_id);
CREATE INDEX access_grant_by_group_place ON access_grant (tenant_id, group_id, destination_id);
CREATE INDEX access_grant_by_place ON access_grant (tenant_id, destination_id, user_id);
DROP INDEX access_grant_by_user;
DROP INDEX access_grant_by_group;
DROP INDEX access_grant_by_destination;

-- What a selector's text begins with, up to its first comma: a destination that lacks that label is not selected. The database makes it, so that a
-- server of before writes it too; a column, because PostgreSQL uses no index on an expression where rows are under row-level security.
--sqlite ALTER TABLE access_grant ADD COLUMN selector_label TEXT GENERATED ALWAYS AS (substr(selector, 1, instr(selector || ',', ',') - 1)) VIRTUAL;
--pg ALTER TABLE access_grant ADD COLUMN selector_label TEXT GENERATED ALWAYS AS (split_part(selector, ',', 1)) STORED;
CREATE INDEX access_grant_by_label ON access_grant (tenant_id, selector_label) WHERE selector_label IS NOT NULL;
DROP INDEX access_grant_by_selector;

-- From the names of a user's groups at a provider to the tenant's groups that these feed.
CREATE INDEX access_group_by_provider ON access_group (tenant_id, provider_id, provider_group) WHERE provider_group IS NOT NULL;
