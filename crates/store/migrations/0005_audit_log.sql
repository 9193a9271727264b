-- The Merkle tree over `audit_record` (RFC 6962, in the tiles of C2SP tlog-tiles). A tile is written once, when its 256th hash is there:
-- level 0 holds leaf hashes, level n the `root`s of 256 tiles of level n - 1. What is not full yet is read from the rows below it.
CREATE TABLE audit_tile (
  tenant_id UUID NOT NULL,
  level BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  root BYTEA NOT NULL,
  hashes BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, level, idx)
) STRICT;

-- Every checkpoint that was signed; `note` is the signed note without cosignatures.
CREATE TABLE audit_checkpoint (
  tenant_id UUID NOT NULL,
  size BIGINT NOT NULL,
  root BYTEA NOT NULL,
  note TEXT NOT NULL,
  signed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, size)
) STRICT;

-- What witnesses signed under a checkpoint: the newest line of each witness.
CREATE TABLE audit_cosignature (
  tenant_id UUID NOT NULL,
  size BIGINT NOT NULL,
  vkey TEXT NOT NULL,
  line TEXT NOT NULL,
  cosigned_at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, size, vkey),
  FOREIGN KEY (tenant_id, size) REFERENCES audit_checkpoint (tenant_id, size)
) STRICT;

-- Witnesses whose cosignatures are accepted, for every log of the installation.
CREATE TABLE audit_witness (
  vkey TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  added_at BIGINT NOT NULL,
  added_by TEXT NOT NULL
) STRICT;

-- How far each configured destination of records (a SIEM) has come in each log; the tenant of zeros is the platform's own. Like `work` it
-- holds ids and numbers and no tenant's data. The lease keeps two servers from sending the same records.
CREATE TABLE audit_cursor (
  forward TEXT NOT NULL,
  owner_tenant UUID NOT NULL,
  next_seq BIGINT NOT NULL,
  delivered_at BIGINT,
  failures BIGINT NOT NULL,
  error TEXT,
  lease_id UUID,
  lease_until BIGINT,
  PRIMARY KEY (forward, owner_tenant)
) STRICT;

CREATE INDEX audit_record_by_time ON audit_record (tenant_id, at);
-- Where a statement's leaf stands: few records, so few entries.
CREATE INDEX audit_record_by_statement ON audit_record (tenant_id, id) WHERE action = 'evidence_sign';

--sqlite CREATE TRIGGER audit_tile_no_update BEFORE UPDATE ON audit_tile BEGIN SELECT RAISE(ABORT, 'audit tiles cannot be changed'); END;
--sqlite CREATE TRIGGER audit_tile_no_delete BEFORE DELETE ON audit_tile BEGIN SELECT RAISE(ABORT, 'audit tiles cannot be deleted'); END;
-- `INSERT OR REPLACE` removes a row without asking the triggers on removal.
--sqlite CREATE TRIGGER audit_record_no_replace BEFORE INSERT ON audit_record WHEN EXISTS (SELECT 1 FROM audit_record WHERE tenant_id = NEW.tenant_id AND seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'audit records cannot be changed'); END;
--sqlite CREATE TRIGGER audit_detail_no_replace BEFORE INSERT ON audit_detail WHEN EXISTS (SELECT 1 FROM audit_detail WHERE tenant_id = NEW.tenant_id AND seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'audit records cannot be changed'); END;
--sqlite CREATE TRIGGER audit_tile_no_replace BEFORE INSERT ON audit_tile WHEN EXISTS (SELECT 1 FROM audit_tile WHERE tenant_id = NEW.tenant_id AND level = NEW.level AND idx = NEW.idx) BEGIN SELECT RAISE(ABORT, 'audit tiles cannot be changed'); END;
--sqlite CREATE TRIGGER audit_checkpoint_no_update BEFORE UPDATE ON audit_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints cannot be changed'); END;
--sqlite CREATE TRIGGER audit_checkpoint_no_delete BEFORE DELETE ON audit_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints cannot be deleted'); END;
--sqlite CREATE TRIGGER audit_head_only_grows BEFORE UPDATE ON audit_head WHEN NEW.size < OLD.size OR NEW.tenant_id <> OLD.tenant_id BEGIN SELECT RAISE(ABORT, 'the audit log cannot be cut'); END;
--sqlite CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head BEGIN SELECT RAISE(ABORT, 'the audit log cannot be cut'); END;
--pg CREATE FUNCTION audit_head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'DELETE' OR NEW.size < OLD.size OR NEW.tenant_id <> OLD.tenant_id THEN RAISE EXCEPTION 'the audit log cannot be cut'; END IF; RETURN NEW; END $$;
--pg CREATE TRIGGER audit_head_only_grows BEFORE UPDATE OR DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_only_grows();
