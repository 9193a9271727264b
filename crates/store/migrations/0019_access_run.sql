-- Up to which batch each relay's calls to its clusters are written down, so that one that is told twice is written down once. `run`: a start of the
-- relay, which numbers its batches from 1.
CREATE TABLE access_run (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  relay_id UUID NOT NULL,
  run TEXT NOT NULL,
  taken BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, relay_id)
) STRICT;
