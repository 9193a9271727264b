// One review: thing by thing, whether it stays.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, type Schemas, sentence, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Review = Schemas["AccessReview"];
type Item = Schemas["AccessReviewItem"];
type Decision = "keep" | "revoke";

export default function ReviewPage() {
  const { review: id = "" } = useParams();
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "reviews", id],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/access-reviews/{access_review}", { params: { path: { tenant: slug, access_review: id } }, signal })),
  });
  useTitle(query.data?.name ?? "Review");
  if (query.isPending) return <Loading rows={8} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return <Shown review={query.data} />;
}

function Shown({ review }: { review: Review }) {
  const tenant = useTenant();
  const path = { tenant: tenant.slug, access_review: review.id };
  const { change, failure } = useChange(["tenant", tenant.slug, "reviews"]);
  const [deciding, setDeciding] = useState<{ item: Item; decision: Decision }>();
  const [closing, setClosing] = useState(false);
  const closed = review.state === "open" ? undefined : "The review is closed.";
  const close = () => take(api.POST("/api/v1/tenants/{tenant}/access-reviews/{access_review}/close", { params: { path } }));
  return (
    <>
      <Head title={review.name} about={`${review.decided} of ${review.items} decided, by ${review.reviewers.join(", ")}`}>
        <Button reason={tenant.lacks("access:manage") ?? closed} onClick={() => setClosing(true)}>
          Close
        </Button>
      </Head>
      {failure}
      <Panel title="What is reviewed" flush>
        <Listing<Item>
          name="Items"
          queryKey={["tenant", tenant.slug, "reviews", review.id, "items"]}
          load={(query, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/access-reviews/{access_review}/items", { params: { path, query }, signal }))
          }
          rowKey={(it) => String(it.number)}
          exported={({ number, about, reason, decision, outcome, decided_by, decided_at }) => ({
            number,
            about,
            reason,
            decision,
            outcome,
            decided_by,
            decided_at,
          })}
          columns={[
            { head: "No.", cell: (it) => String(it.number) },
            {
              head: "Who reaches what",
              kind: "main",
              cell: (it) => (
                <>
                  {it.about}
                  <div className="under">{it.reason}</div>
                </>
              ),
            },
            { head: "Decision", cell: (it) => it.decision && <Badge word={it.outcome ?? it.decision} /> },
            { head: "When", kind: "nowrap", cell: (it) => (it.decided_at ? <When at={it.decided_at} /> : "") },
            {
              head: "",
              cell: (it) => (
                <span className="row">
                  {(["keep", "revoke"] as const).map((decision) => (
                    <Button
                      key={decision}
                      small
                      aria-label={`${decision === "keep" ? "Keep" : "Take"} item ${it.number}`}
                      reason={closed ?? whyNot(it) ?? (it.outcome === "revoked" || it.outcome === "gone" ? "It is taken." : undefined)}
                      onClick={() => setDeciding({ item: it, decision })}
                    >
                      {decision === "keep" ? "Keep" : "Take"}
                    </Button>
                  ))}
                </span>
              ),
            },
          ]}
          empty={
            <Empty title="Nothing" action={<Link to={to.reviews(tenant.slug)}>All reviews</Link>}>
              No grant was in what this review is about.
            </Empty>
          }
        />
      </Panel>
      <p>
        What nobody decides until <When at={review.ends_at} /> {review.undecided === "keep" ? "stays" : "is taken"}.{" "}
        {review.evidence.length > 0 && <Link to={to.evidence(tenant.slug, { kind: "attestation" })}>Its evidence is signed.</Link>}
      </p>
      {deciding && <DecideDialog review={review.id} {...deciding} onClose={() => setDeciding(undefined)} />}
      {closing && (
        <Confirm title={`Close ${review.name}?`} action="Close" onClose={() => setClosing(false)} onConfirm={() => void change(close)}>
          Nobody decides any more: {review.items - review.decided} that nobody decided {review.undecided === "keep" ? "stay" : "are taken"}.
          What was decided is signed.
        </Confirm>
      )}
    </>
  );
}

/** Why the API would not take a decision from who looks. */
const whyNot = ({ undecidable }: Item) => (undecidable ? sentence(undecidable) : undefined);

interface DecideProps {
  review: string;
  item: Item;
  decision: Decision;
  onClose: () => void;
}

function DecideDialog({ review, item, decision, onClose }: DecideProps) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "reviews"]);
  const [reason, setReason] = useState("");
  const decide = async () => {
    const done = await change(() =>
      take(
        api.POST("/api/v1/tenants/{tenant}/access-reviews/{access_review}/decide", {
          params: { path: { tenant: slug, access_review: review } },
          body: { items: [item.number], decision, reason },
        }),
      ),
    );
    if (done) onClose();
  };
  return (
    <Dialog title={decision === "keep" ? "Keep it" : "Take it"} onClose={onClose} onSubmit={() => decide()}>
      {failure}
      <p>
        {item.about}
        {decision === "revoke" && ": what is reached by this alone ends now"}
      </p>
      <TextField label="Reason" required value={reason} onChange={(event) => setReason(event.target.value)} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={decision === "keep" ? "primary" : "danger"} type="submit">
          {decision === "keep" ? "Keep" : "Take"}
        </Button>
      </div>
    </Dialog>
  );
}
