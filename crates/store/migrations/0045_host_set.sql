-- Sets of SSH hosts as destinations (ADR 0081): a destination of kind `set`. `selector`: JSON, the labels that a host of it has.
CREATE TABLE host_set (
  tenant_id UUID NOT NULL,
  destination_id UUID NOT NULL,
  selector TEXT NOT NULL,
  changed_at BIGINT NOT NULL,
--sqlite   selector_label TEXT GENERATED ALWAYS AS (substr(selector, 1, instr(selector || ',', ',') - 1)) VIRTUAL,
--pg   selector_label TEXT GENERATED ALWAYS AS (split_part(selector, ',', 1)) STORED,
  PRIMARY KEY (tenant_id, destination_id),
  FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, id)
) STRICT;
-- As of grants by labels: which sets a host may be in is asked with what each of its labels would begin a selector with.
CREATE INDEX host_set_by_label ON host_set (tenant_id, selector_label);

-- A grant of a set names it here, and nothing in `destination_id`: it has the set's selector in its own column, which follows when the set's changes, and
-- so it is found like every grant by labels.
ALTER TABLE access_grant ADD COLUMN set_id UUID;
CREATE INDEX access_grant_by_set ON access_grant (tenant_id, set_id, user_id) WHERE set_id IS NOT NULL;
