-- What agents reported. A machine has one agent at a time; `busy` is a report that is being taken in.
CREATE TABLE agent_machine (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  machine TEXT NOT NULL,
  agent_id UUID NOT NULL,
  epoch BIGINT NOT NULL,
  sequence BIGINT NOT NULL,
  busy_id UUID,
  busy_until BIGINT,
  PRIMARY KEY (tenant_id, machine),
  UNIQUE (tenant_id, agent_id)
) STRICT;

-- The state of each of its scopes, as the agent names it. NULL: not known, because a report was cut short; it has to come whole.
CREATE TABLE agent_scope (
  tenant_id UUID NOT NULL,
  machine TEXT NOT NULL,
  name TEXT NOT NULL,
  digest BYTEA,
  PRIMARY KEY (tenant_id, machine, name),
  FOREIGN KEY (tenant_id, machine) REFERENCES agent_machine (tenant_id, machine)
) STRICT;

-- A collection is of a job's task, or of an agent.
--pg ALTER TABLE collection ADD COLUMN agent_id UUID;
--pg ALTER TABLE collection ALTER COLUMN job_id DROP NOT NULL;
--pg ALTER TABLE collection ALTER COLUMN task_id DROP NOT NULL;
--sqlite ALTER TABLE collection RENAME TO collection_before;
--sqlite DROP INDEX collection_by_scope;
--sqlite DROP INDEX collection_by_job;
--sqlite DROP INDEX collection_by_evidence;
--sqlite CREATE TABLE collection (
--sqlite   tenant_id UUID NOT NULL,
--sqlite   id UUID NOT NULL,
--sqlite   job_id UUID,
--sqlite   task_id UUID,
--sqlite   scope_key UUID NOT NULL,
--sqlite   scope TEXT NOT NULL,
--sqlite   coverage TEXT NOT NULL,
--sqlite   reason TEXT,
--sqlite   nodes BIGINT NOT NULL,
--sqlite   edges BIGINT NOT NULL,
--sqlite   call_count BIGINT NOT NULL,
--sqlite   started_at BIGINT NOT NULL,
--sqlite   finished_at BIGINT NOT NULL,
--sqlite   evidence_id UUID,
--sqlite   agent_id UUID,
--sqlite   PRIMARY KEY (tenant_id, id),
--sqlite   UNIQUE (tenant_id, task_id, scope_key),
--sqlite   FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)
--sqlite ) STRICT;
--sqlite INSERT INTO collection SELECT tenant_id, id, job_id, task_id, scope_key, scope, coverage, reason, nodes, edges, call_count, started_at, finished_at, evidence_id, NULL FROM collection_before;
--sqlite DROP TABLE collection_before;
--sqlite CREATE INDEX collection_by_scope ON collection (tenant_id, scope_key, finished_at);
--sqlite CREATE INDEX collection_by_job ON collection (tenant_id, job_id);
--sqlite CREATE INDEX collection_by_evidence ON collection (tenant_id, evidence_id);
