-- What a plugin left for its next run with the last reading of a scope, if that was whole and alone there. Whatever is written in the scope after
-- that takes it away. `checkpoint_basis`: of which program and settings it is. `checkpoint_evidence` and `checkpoint_pae`: the statement that
-- the next reading rests on. `checkpoint_whole_at`: when all of the scope was last shown; `checkpoint_differences`: readings since that showed some.
ALTER TABLE scope ADD COLUMN checkpoint BYTEA;
ALTER TABLE scope ADD COLUMN checkpoint_basis BYTEA;
ALTER TABLE scope ADD COLUMN checkpoint_evidence UUID;
ALTER TABLE scope ADD COLUMN checkpoint_pae BYTEA;
ALTER TABLE scope ADD COLUMN checkpoint_whole_at BIGINT;
ALTER TABLE scope ADD COLUMN checkpoint_differences BIGINT;
