-- Host keys of SSH targets that are remembered: from a first contact, or named by somebody.

-- `relay_id`: who reaches the target, since an address means another machine elsewhere; zeros: the server itself. `host`: a name or address in
-- its one spelling. `public_key`: one line as OpenSSH has it. `origin`: `first_contact` or `pinned`.
CREATE TABLE ssh_host_key (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  relay_id UUID NOT NULL,
  host TEXT NOT NULL,
  port BIGINT NOT NULL,
  public_key TEXT NOT NULL,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX ssh_host_key_by_target ON ssh_host_key (tenant_id, relay_id, host, port);
