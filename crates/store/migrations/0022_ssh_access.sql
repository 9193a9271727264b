-- Hosts that are reached by SSH with certificates of this installation.

-- A destination of kind `ssh` as an administrator knows it. `address`: HOST:PORT. `host_key`: one line as OpenSSH has it. `source_networks`: JSON, a
-- list of networks from which certificates are good; none: from everywhere. `extensions`: JSON, a list of what they allow.
CREATE TABLE ssh_host (
  tenant_id UUID NOT NULL,
  destination_id UUID NOT NULL,
  address TEXT NOT NULL,
  host_key TEXT NOT NULL,
  source_networks TEXT NOT NULL,
  extensions TEXT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, destination_id),
  FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, id)
) STRICT;
