-- From somebody to their groups. SQLite reads all places in groups of a tenant or a provider for each user, where an index that begins with that alone
-- holds what is asked for and the one by users does not.

CREATE INDEX access_group_member_by_member ON access_group_member (tenant_id, user_id, group_id);
CREATE INDEX scim_group_member_by_member ON scim_group_member (provider_id, user_id, group_id);
DROP INDEX access_group_member_by_user;
DROP INDEX scim_group_member_by_user;
