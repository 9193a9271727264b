-- When the certificate ends that a destination's proxy shows to who comes without the server, by its relay's word; null: it does not say, or there is none.
ALTER TABLE destination ADD COLUMN certificate_ends_at BIGINT;
