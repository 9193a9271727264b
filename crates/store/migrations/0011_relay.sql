-- Jobs that a relay does, and on which server each relay hangs.

ALTER TABLE job ADD COLUMN relay_id UUID;
ALTER TABLE schedule ADD COLUMN relay_id UUID;
ALTER TABLE work ADD COLUMN relay_id UUID;
CREATE INDEX work_by_relay ON work (relay_id, due_at) WHERE relay_id IS NOT NULL;

-- Ids and times, and nothing of a tenant's. `server`: which process; one that was killed leaves its rows, and whoever takes the relay over
-- replaces them.
CREATE TABLE relay_link (
  relay_id UUID NOT NULL PRIMARY KEY,
  owner_tenant UUID NOT NULL,
  server UUID NOT NULL,
  linked_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL
) STRICT;
CREATE INDEX relay_link_by_server ON relay_link (server);
