-- Connections to SSH hosts of which no end was told, by their relay.

CREATE INDEX ssh_session_open ON ssh_session (tenant_id, relay_id) WHERE ended_at IS NULL;

-- Where a relay takes users to hosts without the server between: HOST:PORT, and the authority to trust there in PEM (empty: those of their systems). NULL:
-- nowhere.
ALTER TABLE fleet_unit ADD COLUMN ssh_address TEXT;
ALTER TABLE fleet_unit ADD COLUMN ssh_authority TEXT;
