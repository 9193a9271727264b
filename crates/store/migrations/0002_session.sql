-- Sessions that end by themselves, second factors, and sign-ins between their two steps. What is here is a user's, and no tenant's.

ALTER TABLE session ADD COLUMN method TEXT NOT NULL DEFAULT 'password';
ALTER TABLE session ADD COLUMN second_factor BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE session ADD COLUMN agent TEXT;
ALTER TABLE session ADD COLUMN idle_ms BIGINT NOT NULL DEFAULT 3600000;
ALTER TABLE session ADD COLUMN last_used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN proved_at BIGINT NOT NULL DEFAULT 0;
UPDATE session SET last_used_at = created_at, proved_at = created_at;

ALTER TABLE tenant ADD COLUMN second_factor_required BOOLEAN NOT NULL DEFAULT FALSE;

-- `sealed` and `last_step` are of an authenticator app, `credential_id` to `sign_count` of a passkey.
CREATE TABLE factor (
  id UUID NOT NULL PRIMARY KEY,
  user_id UUID NOT NULL REFERENCES app_user (id),
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  confirmed_at BIGINT,
  last_used_at BIGINT,
  sealed BYTEA,
  last_step BIGINT NOT NULL DEFAULT -1,
  credential_id BYTEA UNIQUE,
  public_key BYTEA,
  sign_count BIGINT NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX factor_by_user ON factor (user_id);

-- HMAC of each code under the installation's factor key.
CREATE TABLE recovery_code (
  user_id UUID NOT NULL REFERENCES app_user (id),
  mac BYTEA NOT NULL,
  used_at BIGINT,
  PRIMARY KEY (user_id, mac)
) STRICT;

-- Wrong codes of an authenticator app since the last right one.
CREATE TABLE factor_guess (
  user_id UUID NOT NULL PRIMARY KEY REFERENCES app_user (id),
  wrong BIGINT NOT NULL,
  wait_until BIGINT NOT NULL
) STRICT;

-- Sign-ins whose first step is done.
CREATE TABLE sign_in (
  id UUID NOT NULL PRIMARY KEY,
  user_id UUID NOT NULL REFERENCES app_user (id),
  method TEXT NOT NULL,
  expires_at BIGINT NOT NULL
) STRICT;
CREATE INDEX sign_in_by_user ON sign_in (user_id);

-- Challenges that were answered: none is answered twice.
CREATE TABLE answered_challenge (
  id UUID NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL
) STRICT;
