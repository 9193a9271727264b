-- Connections to SSH hosts through relays.

-- `token_id`: the destination token that let the user in; each is good for one connection. `ended_at`: none while it is open, or where its relay never
-- told.
CREATE TABLE ssh_session (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  token_id UUID NOT NULL,
  destination_id UUID NOT NULL,
  relay_id UUID NOT NULL,
  user_id UUID NOT NULL,
  session_id UUID NOT NULL,
  role TEXT NOT NULL,
  began_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX ssh_session_by_token ON ssh_session (tenant_id, token_id);
CREATE INDEX ssh_session_by_time ON ssh_session (tenant_id, began_at);
