-- What findings are looked for by of their nodes: a row for each node that has a finding. Nodes are many and wide, those that have findings are fewer, and a
-- search by text reads all of them. The name follows the node's (finding_node.rs).
CREATE TABLE finding_node (
  tenant_id UUID NOT NULL,
  key UUID NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (tenant_id, key),
  FOREIGN KEY (tenant_id, key) REFERENCES node (tenant_id, key)
-- In the order of its key: it is read from the first row of a tenant to the last.
--sqlite ) STRICT, WITHOUT ROWID;
--pg );
-- The owner sees rows only where it is not forced under the policies.
--pg ALTER TABLE finding NO FORCE ROW LEVEL SECURITY;
--pg ALTER TABLE node NO FORCE ROW LEVEL SECURITY;
INSERT INTO finding_node (tenant_id, key, id, name)
  SELECT n.tenant_id, n.key, n.id, n.name FROM (SELECT DISTINCT tenant_id, node_key FROM finding) f
  JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key;
--pg ALTER TABLE finding FORCE ROW LEVEL SECURITY;
--pg ALTER TABLE node FORCE ROW LEVEL SECURITY;
