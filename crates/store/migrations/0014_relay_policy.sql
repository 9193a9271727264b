-- Which certificates a tenant's relays have to show, and how the server is called on which each hangs.

-- `authorities`: PEM. Without a row, or without authorities, nobody is asked.
CREATE TABLE relay_policy (
  tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenant (id),
  authorities TEXT NOT NULL,
  certificate_required BOOLEAN NOT NULL,
  changed_at BIGINT NOT NULL
) STRICT;

-- For people: which of several servers it is.
ALTER TABLE relay_link ADD COLUMN place TEXT NOT NULL DEFAULT '';
