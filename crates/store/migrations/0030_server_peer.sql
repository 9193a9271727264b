-- Which servers there are, so that a request reaches the one that its relay hangs on; and recordings in the order of their time.

-- `server`: which process. `address`: `host:port`, where other servers reach it. `certificate`: SHA-256 of the one that it shows there. `until`: it
-- gives a sign of life before. `proof`: over all of these, by a key of the installation that is sealed: who only writes to the database names nobody.
CREATE TABLE server_peer (
  server UUID NOT NULL PRIMARY KEY,
  address TEXT NOT NULL,
  certificate BYTEA NOT NULL,
  until BIGINT NOT NULL,
  proof BYTEA NOT NULL
) STRICT;

-- A file that is not there while a backup is taken: does a row name it still?
CREATE INDEX recording_chunk_by_blob ON recording_chunk (tenant_id, blob);

CREATE INDEX recording_by_time ON recording (tenant_id, began_at, id);
