-- Domains at which a provider is taken at its word for addresses that it says nothing about, between spaces. See docs/access.md.
ALTER TABLE identity_provider ADD COLUMN email_domains TEXT NOT NULL DEFAULT '';
