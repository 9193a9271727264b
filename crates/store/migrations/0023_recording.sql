-- Recordings of sessions at destinations.

-- What a tenant wants recorded; without a row the defaults of `store::recording`. `kubernetes`, `ssh`: `off`, `best-effort` or `required`.
CREATE TABLE recording_policy (
  tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenant (id),
  kubernetes TEXT NOT NULL,
  ssh TEXT NOT NULL,
  input BOOLEAN NOT NULL,
  retention_days BIGINT NOT NULL,
  changed_at BIGINT NOT NULL
) STRICT;

-- `about`: JSON, what the relay said when the session began, and the grants that its user held. `sealed`: the key that seals the pieces, sealed; it
-- goes with the recording, and then the pieces are worth nothing wherever they are. `state`: `open`, `ended` or `cut_off`. `chain`: the hash over
-- the pieces so far. `ending`: JSON, how it ended. `sha256`: of the asciicast, with the signature over its 32 bytes.
CREATE TABLE recording (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  relay_id UUID NOT NULL,
  destination_id UUID NOT NULL,
  destination_name TEXT NOT NULL,
  user_id UUID NOT NULL,
  user_name TEXT NOT NULL,
  user_known BOOLEAN NOT NULL,
  session_id UUID NOT NULL,
  about TEXT NOT NULL,
  input BOOLEAN NOT NULL,
  sealed BYTEA NOT NULL,
  state TEXT NOT NULL,
  began_at BIGINT NOT NULL,
  heard_at BIGINT NOT NULL,
  ended_at BIGINT,
  chunks BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  chain BYTEA NOT NULL,
  ending TEXT,
  sha256 BYTEA,
  signature BYTEA,
  key_id TEXT,
  evidence_id UUID,
  PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX recording_by_user ON recording (tenant_id, user_id, id);
CREATE INDEX recording_by_destination ON recording (tenant_id, destination_id, id);
CREATE INDEX recording_by_state ON recording (tenant_id, state, heard_at);

-- `digest`: of the piece as it came. `blob`: of what is kept of it in the evidence store, which is packed and sealed.
CREATE TABLE recording_chunk (
  tenant_id UUID NOT NULL,
  recording_id UUID NOT NULL,
  number BIGINT NOT NULL,
  digest BYTEA NOT NULL,
  blob BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, recording_id, number),
  FOREIGN KEY (tenant_id, recording_id) REFERENCES recording (tenant_id, id)
) STRICT;
