-- Since when a user of an identity provider is only what a backup said, because nobody has asked the provider about them after a restore:
-- their API keys are suspended until it confirms them.
ALTER TABLE app_user ADD COLUMN unconfirmed_since BIGINT;
