-- As whom else the holder of a grant may act in a cluster: {"users": [...], "groups": [...]}; NULL: as nobody.

ALTER TABLE access_grant ADD COLUMN act_as TEXT;
