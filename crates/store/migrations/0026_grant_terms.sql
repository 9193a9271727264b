-- How hosts are reached by a grant: {"networks": [...], "extensions": [...], "command": "..."}, each where it is said; NULL: from everywhere, with all
-- that a host allows. A grant that says something gives nothing in a cluster.

ALTER TABLE access_grant ADD COLUMN ssh_terms TEXT;
