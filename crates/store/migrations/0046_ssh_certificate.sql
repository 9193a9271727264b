-- When the certificate ends that a relay shows to who comes to its hosts without the server, by its word; null: it does not listen, or does not say.
ALTER TABLE fleet_unit ADD COLUMN ssh_certificate_ends_at BIGINT;
