-- What is drawn of a tenant's graph is read into memory once and kept; these rows say when that is out of date.

-- How often a part changed: `graph` with every change of nodes and edges, `findings` with every change of findings.
CREATE TABLE graph_state (
  tenant_id UUID NOT NULL,
  part TEXT NOT NULL,
  generation BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, part)
) STRICT;

-- A large graph in numbers (deflated JSON), as it was when `graph` and `findings` were what they say: so that the first look at it need not read
-- all of it.
CREATE TABLE graph_summary (
  tenant_id UUID NOT NULL,
  graph BIGINT NOT NULL,
  findings BIGINT NOT NULL,
  at BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (tenant_id)
) STRICT;

-- When nodes were there, without what they were.
CREATE INDEX node_version_by_time ON node_version (tenant_id, key, valid_from, valid_to);
