-- Eligible grants (ADR 0079): they give nothing, and let ask for what they say. Whom one is for stands in columns of its own, `user_id` and `group_id` are
-- empty: nothing that looks for what somebody holds finds it, nor does a server of the release before.
ALTER TABLE access_grant ADD COLUMN may_user_id UUID REFERENCES app_user (id);
ALTER TABLE access_grant ADD COLUMN may_group_id UUID;
--pg ALTER TABLE access_grant ADD FOREIGN KEY (tenant_id, may_group_id) REFERENCES access_group (tenant_id, id);
CREATE INDEX access_grant_by_may_user ON access_grant (tenant_id, may_user_id) WHERE may_user_id IS NOT NULL;
CREATE INDEX access_grant_by_may_group ON access_grant (tenant_id, may_group_id) WHERE may_group_id IS NOT NULL;

-- The eligible grant that one was approved under. Without that one it gives nothing.
ALTER TABLE access_grant ADD COLUMN rests_on UUID;
CREATE INDEX access_grant_by_rests_on ON access_grant (tenant_id, rests_on) WHERE rests_on IS NOT NULL;

-- The eligible grant that something was asked for under, if one covered it.
ALTER TABLE access_request ADD COLUMN eligible_id UUID;
-- Whether only what an eligible grant covers may be asked for.
ALTER TABLE access_policy ADD COLUMN eligible_only BOOLEAN NOT NULL DEFAULT FALSE;
