-- What a credential can do, asked without reading anything; the log of a job and where its scopes are; schedules that are paused.

-- `status`: `queued`, `running`, `passed`, `incomplete`, `failed`. `credential_key`: the credential's id, zeros for none: one validation of each at
-- a time. `checks`: JSON, what was tried.
CREATE TABLE validation (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  plugin TEXT NOT NULL,
  credential_key UUID NOT NULL,
  relay_id UUID,
  config TEXT NOT NULL,
  status TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  finished_at BIGINT,
  error TEXT,
  checks TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX validation_at_once ON validation (tenant_id, credential_key) WHERE finished_at IS NULL;
CREATE INDEX validation_by_credential ON validation (tenant_id, credential_key, id);

-- A line of a job's log. `task`: the key of the task, `scope`: the scope that it is about; empty for none.
CREATE TABLE job_line (
  tenant_id UUID NOT NULL,
  id UUID NOT NULL,
  job_id UUID NOT NULL,
  at BIGINT NOT NULL,
  level TEXT NOT NULL,
  task TEXT NOT NULL,
  scope TEXT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)
) STRICT;
CREATE INDEX job_line_by_job ON job_line (tenant_id, job_id, id);

-- Scopes that a task reads at this moment; what was read of one in the end is in `collection`.
CREATE TABLE task_scope (
  tenant_id UUID NOT NULL,
  task_id UUID NOT NULL,
  scope TEXT NOT NULL,
  nodes BIGINT NOT NULL,
  edges BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, task_id, scope),
  FOREIGN KEY (tenant_id, task_id) REFERENCES task (tenant_id, id)
) STRICT;

ALTER TABLE schedule ADD COLUMN paused BOOLEAN NOT NULL DEFAULT FALSE;
