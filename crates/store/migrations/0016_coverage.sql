-- Who may close what. A source (`aws`, `network-scan@rly_…`, `agent/agt_…`) reads scopes in runs that it numbers as they begin.
CREATE TABLE source (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  source TEXT NOT NULL,
  generation BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, source)
) STRICT;

-- The ledger: a row of `scope` is what one source last said of one scope. `writer` is the run that last wrote something of it and `written`
-- the newest run that had begun by then: a run that began earlier than that was not alone. `ended` counts the runs that came to their end.
ALTER TABLE scope ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE scope ADD COLUMN writer BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scope ADD COLUMN written BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scope ADD COLUMN ended BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scope ADD COLUMN verdict TEXT NOT NULL DEFAULT 'unfinished';
ALTER TABLE scope ADD COLUMN reason TEXT;
-- Until now the plugins `aws` and `host` read scopes of their own name. The owner sees rows only where it is not forced under the policies.
--pg ALTER TABLE scope NO FORCE ROW LEVEL SECURITY;
UPDATE scope SET source = CASE WHEN scope LIKE 'aws:%' THEN 'aws' ELSE 'host' END,
  verdict = CASE WHEN complete_at >= seen_at THEN 'complete' ELSE 'partial' END;
--pg ALTER TABLE scope FORCE ROW LEVEL SECURITY;
CREATE UNIQUE INDEX scope_by_name ON scope (tenant_id, scope, source);
