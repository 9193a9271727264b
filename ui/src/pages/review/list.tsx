// Reviews of access: those that one was asked to decide, or all of them for who manages access.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextArea, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty } from "../../design/state";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Review = Schemas["AccessReview"];

export default function ReviewsPage() {
  useTitle("Access reviews");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const [beginning, setBeginning] = useState(false);
  const lacks = tenant.lacks("access:manage");
  const begin = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setBeginning(true)}>
      Begin a review
    </Button>
  );
  return (
    <>
      <Head title="Access reviews" about="Whether everybody still needs what they have. A review ends in signed evidence.">
        {begin("primary")}
      </Head>
      <Panel title="Reviews" flush>
        <Listing<Review>
          name="Reviews"
          queryKey={["tenant", tenant.slug, "reviews"]}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/access-reviews", { params: { path, query }, signal }))}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            name: it.name,
            state: it.state,
            reviewers: it.reviewers.join(" "),
            items: it.items,
            decided: it.decided,
            revoked: it.revoked,
            undecided: it.undecided,
            ends_at: it.ends_at,
          })}
          columns={[
            { head: "Review", kind: "main", cell: (it) => <Link to={to.review(tenant.slug, it.id)}>{it.name}</Link> },
            { head: "State", cell: (it) => <Badge word={it.state} /> },
            { head: "Decided", cell: (it) => `${it.decided} of ${it.items}` },
            { head: "To be taken", cell: (it) => String(it.revoked) },
            { head: "Ends", kind: "nowrap", cell: (it) => <When at={it.ends_at} /> },
          ]}
          empty={
            <Empty
              title="No reviews"
              action={begin()}
            >
              Reviews that you are asked to decide are here.
            </Empty>
          }
        />
      </Panel>
      {beginning && <BeginDialog onClose={() => setBeginning(false)} />}
    </>
  );
}

/** The names of a field, one a line or between commas. */
const names = (text: string) => text.split(/[\s,]+/).filter(Boolean);

function BeginDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "reviews"]);
  const [of, setOf] = useState({ name: "", reviewers: "", days: "14", undecided: "keep", destinations: "", groups: "" });
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const begin = async () => {
    const ends_at = new Date(Date.now() + Number(of.days) * 86_400_000).toISOString();
    const scope = { destinations: names(of.destinations), groups: names(of.groups) };
    const body = { name: of.name, reviewers: names(of.reviewers), undecided: of.undecided, ends_at, scope };
    const done = await change(() =>
      take(api.POST("/api/v1/tenants/{tenant}/access-reviews", { params: { path: { tenant: slug } }, body })),
    );
    if (done) onClose();
  };
  return (
    <Dialog title="Begin a review" onClose={onClose} onSubmit={() => begin()}>
      {failure}
      <TextField label="Name" required value={of.name} onChange={set("name")} />
      <TextArea label="Reviewers" required help="Login names" value={of.reviewers} onChange={set("reviewers")} />
      <TextField label="Open for, in days" required inputMode="numeric" value={of.days} onChange={set("days")} />
      <Select label="What nobody decides" value={of.undecided} onChange={set("undecided")}>
        <option value="keep">stays</option>
        <option value="revoke">is taken</option>
      </Select>
      <TextField label="Only these destinations (optional)" value={of.destinations} onChange={set("destinations")} />
      <TextField label="Only these groups (optional)" value={of.groups} onChange={set("groups")} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Begin
        </Button>
      </div>
    </Dialog>
  );
}
