// Requests for access: one's own, and those that wait for an answer.
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useMe, useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { eligibleOf, limitsOf, MayAsk, placeOf } from "../grant/eligible";
import { AskDialog, type Asked } from "./ask";

type Request = Schemas["AccessRequest"];

const base: Column<Request>[] = [
  {
    head: "Destination",
    kind: "main",
    cell: (it) => (
      <>
        {it.name} <span className="muted">as {it.role}</span>
        <div className="under">{it.reason}</div>
        {it.eligible && <div className="under">under an eligible grant, with its limits</div>}
      </>
    ),
  },
  { head: "For", kind: "nowrap", cell: (it) => `${Math.round(it.duration_s / 60)} min` },
  { head: "State", cell: (it) => <Badge word={it.state} /> },
  { head: "Asked", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
  { head: "Answer", cell: (it) => (it.decided_by ? `${it.decided_by}: ${it.answer || "no words"}` : "") },
];

const exported = (it: Request) => ({
  id: it.id,
  email: it.email,
  destination: it.name,
  role: it.role,
  namespace: it.namespace,
  eligible: it.eligible,
  duration_s: it.duration_s,
  reason: it.reason,
  state: it.state,
  created_at: it.created_at,
  decided_by: it.decided_by,
  answer: it.answer,
});

export default function RequestsPage() {
  useTitle("Access requests");
  const tenant = useTenant();
  const [asking, setAsking] = useState<{ by?: Asked }>();
  const ask = (primary: boolean) => (
    <Button kind={primary ? "primary" : "plain"} onClick={() => setAsking({})}>
      Ask for access
    </Button>
  );
  return (
    <>
      <Head title="Access requests" about="Access for a while, which somebody else approves.">
        {ask(true)}
      </Head>
      {tenant.can("access:manage") && <Waiting />}
      <Mine ask={ask(false)} />
      <MayAsk
        name="What you may ask for"
        queryKey={["tenant", tenant.slug, "eligible"]}
        load={eligibleOf({ own: tenant.slug })}
        about="What you may ask for by an eligible grant. What is approved keeps its limits."
        action={(it) => (
          <Button small aria-label={`Ask for ${placeOf(it)} as ${it.role}`} onClick={() => setAsking({ by: askedBy(it) })}>
            Ask…
          </Button>
        )}
      />
      {asking && <AskDialog by={asking.by} onClose={() => setAsking(undefined)} />}
    </>
  );
}

const askedBy = (it: Schemas["Grant"]): Asked => ({
  destination: it.destination ?? "",
  role: it.role,
  namespace: it.namespace ?? "",
  ...(it.destination ? {} : { labels: placeOf(it) }),
});

function Mine({ ask }: { ask: ReactNode }) {
  const { slug } = useTenant();
  const path = { tenant: slug };
  const queryKey = ["tenant", slug, "requests", "mine"];
  const { change, failure } = useChange(["tenant", slug, "requests"]);
  const withdraw = (request: string) =>
    take(
      api.POST("/api/v1/tenants/{tenant}/access-requests/{access_request}/withdraw", {
        params: { path: { ...path, access_request: request } },
      }),
    );
  return (
    <Panel title="Yours" flush>
      {failure}
      <Listing
        name="Your requests"
        queryKey={queryKey}
        load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/access-requests/mine", { params: { path, query }, signal }))}
        rowKey={(it) => it.id}
        exported={exported}
        columns={[
          ...base,
          {
            head: "",
            cell: (it) => (
              <Button
                small
                aria-label={`Withdraw the request for ${it.name}`}
                reason={it.state === "pending" ? undefined : `It is ${it.state}.`}
                onClick={() => void change(() => withdraw(it.id))}
              >
                Withdraw
              </Button>
            ),
          },
        ]}
        empty={
          <Empty title="You asked for nothing" action={ask}>
            When you need a destination for a while, ask here.
          </Empty>
        }
      />
    </Panel>
  );
}

function Waiting() {
  const me = useMe();
  const { slug } = useTenant();
  const path = { tenant: slug };
  const queryKey = ["tenant", slug, "requests", "all"];
  const [answering, setAnswering] = useState<{ request: Request; approve: boolean }>();
  return (
    <Panel title="Of everybody" flush>
      <Listing
        name="Requests of everybody"
        pageIn="everybody"
        queryKey={queryKey}
        load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/access-requests", { params: { path, query }, signal }))}
        every={10_000}
        rowKey={(it) => it.id}
        exported={exported}
        columns={[
          { head: "Who", cell: (it) => it.email },
          ...base,
          {
            head: "",
            cell: (it) => {
              const reason = it.state !== "pending" ? `It is ${it.state}.` : it.user === me.id ? "Somebody else has to answer yours." : undefined;
              return (
                <span className="row">
                  <Button
                    small
                    aria-label={`Approve the request of ${it.email}`}
                    reason={reason}
                    onClick={() => setAnswering({ request: it, approve: true })}
                  >
                    Approve
                  </Button>
                  <Button
                    small
                    aria-label={`Deny the request of ${it.email}`}
                    reason={reason}
                    onClick={() => setAnswering({ request: it, approve: false })}
                  >
                    Deny
                  </Button>
                </span>
              );
            },
          },
        ]}
        empty={
          <Empty title="Nobody asked">
            Members ask on this page, or with <code>cairn requests create</code>; you are shown it here.
          </Empty>
        }
      />
      {answering && <AnswerDialog {...answering} onClose={() => setAnswering(undefined)} />}
    </Panel>
  );
}

function AnswerDialog({ request, approve, onClose }: { request: Request; approve: boolean; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "requests"]);
  const [answer, setAnswer] = useState("");
  const send = async () => {
    const of = { params: { path: { tenant: slug, access_request: request.id } }, body: { answer: answer || null } };
    const done = await change(() =>
      approve
        ? take(api.POST("/api/v1/tenants/{tenant}/access-requests/{access_request}/approve", of))
        : take(api.POST("/api/v1/tenants/{tenant}/access-requests/{access_request}/deny", of)),
    );
    if (done) onClose();
  };
  return (
    <Dialog title={approve ? "Approve the request" : "Deny the request"} onClose={onClose} onSubmit={() => send()}>
      {failure}
      <p>
        {request.email} asks for {request.name} as {request.role}
        {request.namespace ? ` in ${request.namespace}` : ""} for {Math.round(request.duration_s / 60)} minutes: {request.reason}
      </p>
      {request.eligible && <Under grant={request.eligible} />}
      <TextField label="Words for them (optional)" value={answer} onChange={(event) => setAnswer(event.target.value)} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={approve ? "primary" : "danger"} type="submit">
          {approve ? "Approve" : "Deny"}
        </Button>
      </div>
    </Dialog>
  );
}

// The limits that what is approved keeps.
function Under({ grant }: { grant: string }) {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "grants", grant],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/grants/{grant}", { params: { path: { tenant: slug, grant } }, signal })),
  });
  if (!query.data) return <p>An eligible grant covers it{query.isError ? ", which is gone" : ""}.</p>;
  const it = query.data;
  return (
    <p>
      An eligible grant of {it.user ?? `the group ${it.group ?? ""}`} for {placeOf(it)} covers it. Limits that stay: {limitsOf(it)}.
    </p>
  );
}
