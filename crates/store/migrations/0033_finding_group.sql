-- Findings in groups and by filters: narrow indexes that hold all that a list or a count asks for, so that neither reads the findings themselves.

CREATE INDEX finding_list_by_risk ON finding (tenant_id, risk DESC, id, status, severity, rule_id, node_key);
CREATE INDEX finding_group_by_rule ON finding (tenant_id, rule_id, status, severity, risk, node_key);
CREATE INDEX finding_group_by_node ON finding (tenant_id, node_key, status, severity, risk, rule_id);

-- The beginnings of the ones above.
DROP INDEX finding_by_risk;
DROP INDEX finding_by_node;
