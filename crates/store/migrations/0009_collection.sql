-- What was called stands in the signed statement, and only there.
ALTER TABLE collection DROP COLUMN calls;
