-- Reviews of access: somebody looks at who reaches what, and says of each whether it stays.

-- `scope`: JSON, what is reviewed. `undecided`: `keep` or `revoke`, what becomes of what nobody decided. `state`: `open`, `closed`, or `attested`
-- once its evidence is signed.
CREATE TABLE access_review (
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  id UUID NOT NULL,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  undecided TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  ends_at BIGINT NOT NULL,
  closed_at BIGINT,
  closed_by TEXT,
  PRIMARY KEY (tenant_id, id)
) STRICT;

CREATE TABLE access_reviewer (
  tenant_id UUID NOT NULL,
  review_id UUID NOT NULL,
  user_id UUID NOT NULL REFERENCES app_user (id),
  PRIMARY KEY (tenant_id, review_id, user_id),
  FOREIGN KEY (tenant_id, review_id) REFERENCES access_review (tenant_id, id)
) STRICT;
CREATE INDEX access_reviewer_by_user ON access_reviewer (tenant_id, user_id);

-- One thing that gives access, as it was when the review began (`shown`: JSON). `kind`: `grant` (`grant_id`) or `member` (`group_id` and `user_id`: a
-- place in a group that something is granted to). `decision`: `keep` or `revoke`; `outcome`: `kept`, `revoked`, or `gone` where somebody else
-- had taken it.
CREATE TABLE access_review_item (
  tenant_id UUID NOT NULL,
  review_id UUID NOT NULL,
  number BIGINT NOT NULL,
  kind TEXT NOT NULL,
  grant_id UUID,
  group_id UUID,
  user_id UUID,
  shown TEXT NOT NULL,
  decision TEXT,
  reason TEXT,
  decided_at BIGINT,
  decided_by TEXT,
  outcome TEXT,
  PRIMARY KEY (tenant_id, review_id, number),
  FOREIGN KEY (tenant_id, review_id) REFERENCES access_review (tenant_id, id)
) STRICT;

-- The evidence that a review ended in.
CREATE TABLE access_review_evidence (
  tenant_id UUID NOT NULL,
  review_id UUID NOT NULL,
  evidence_id UUID NOT NULL,
  PRIMARY KEY (tenant_id, review_id, evidence_id),
  FOREIGN KEY (tenant_id, review_id) REFERENCES access_review (tenant_id, id),
  FOREIGN KEY (tenant_id, evidence_id) REFERENCES evidence (tenant_id, id)
) STRICT;
