-- What the home page shows: how each framework stood day by day, and what changed since somebody last looked.

-- How a framework stood, as the last evaluation of a UTC day had it (`day`: days since 1970). A day on which nothing changed has no row: what the
-- row before it says still holds. `open_findings`: of rules that one of the framework's controls has.
CREATE TABLE posture_day (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  framework TEXT NOT NULL,
  day BIGINT NOT NULL,
  pass BIGINT NOT NULL,
  partial BIGINT NOT NULL,
  fail BIGINT NOT NULL,
  not_assessed BIGINT NOT NULL,
  open_findings BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, framework, day)
) STRICT;

-- Up to when a member has seen what changed in their tenant: they say so.
ALTER TABLE member ADD COLUMN changes_seen_at BIGINT;

-- When a finding's status changed last: `changed_at` moves with its facts too. NULL where only servers before this one wrote it: `changed_at` stands for it
-- then.
ALTER TABLE finding ADD COLUMN status_at BIGINT;
CREATE INDEX finding_by_change ON finding (tenant_id, changed_at);

-- Nodes by when they last became what they are, and when they were closed. On PostgreSQL without the tenant in front: see `node` in 0001.
--sqlite CREATE INDEX node_by_change ON node (tenant_id, valid_from);
--pg CREATE INDEX node_by_change ON node (valid_from, tenant_id);
CREATE INDEX node_by_close ON node (tenant_id, closed_at) WHERE closed_at IS NOT NULL;

CREATE INDEX job_by_failure ON job (tenant_id, finished_at) WHERE status = 'failed';

-- Grants that somebody took, or that went with a group, a member or a destination: the grant itself is gone. One that expired is not here.
CREATE TABLE access_grant_end (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  ended_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX access_grant_end_by_time ON access_grant_end (tenant_id, ended_at);
CREATE INDEX access_grant_by_time ON access_grant (tenant_id, created_at);
