// The audit log: search, what comes in, the signed head, and a file of all that matches.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Facts, Json } from "../../design/facts";
import { Select, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { save } from "../../list/export";
import { Listing, useFilter } from "../../list/keyset";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type AuditRecord = Schemas["AuditRecord"];

const CATEGORIES = ["authentication", "authorization", "credential", "discovery", "user", "evidence", "access", "system"];

export default function AuditPage() {
  useTitle("Audit log");
  const { slug } = useTenant();
  const path = { tenant: slug };
  const [category, setCategory] = useFilter("category");
  const [outcome, setOutcome] = useFilter("outcome");
  const [text, setText] = useFilter("text");
  const [typed, setTyped] = useState(text);
  const [live, setLive] = useState(false);
  const [shown, setShown] = useState<AuditRecord>();
  const filters = Object.fromEntries(Object.entries({ category, outcome, text }).filter(([, value]) => value));
  const columns: Column<AuditRecord>[] = [
    { head: "No", kind: "number", cell: (it) => it.seq },
    { head: "When", kind: "nowrap", cell: (it) => <When at={it.at} /> },
    {
      head: "What",
      kind: "main",
      cell: (it) => (
        <>
          <strong>{it.action}</strong>
          <div className="under">
            {it.object_type} {it.object_id}
          </div>
        </>
      ),
    },
    { head: "Who", cell: (it) => it.actor },
    { head: "Category", cell: (it) => it.category },
    { head: "Outcome", cell: (it) => <Badge word={it.outcome} /> },
    {
      head: "",
      cell: (it) => (
        <Button small aria-label={`Details of record ${it.seq}`} onClick={() => setShown(it)}>
          Details
        </Button>
      ),
    },
  ];
  return (
    <>
      <Head title="Audit log" about="Every change with who made it, every denial and every sign-in. Nothing in it can be changed unseen.">
        <Button aria-pressed={live} onClick={() => setLive(!live)}>
          {live ? "Stop following" : "Follow"}
        </Button>
      </Head>
      <Checkpoint />
      <form
        className="filters"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setText(typed.trim());
        }}
      >
        <Select label="Category" value={category} onChange={(event) => setCategory(event.target.value)}>
          <option value="">All</option>
          {CATEGORIES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <Select label="Outcome" value={outcome} onChange={(event) => setOutcome(event.target.value)}>
          <option value="">All</option>
          <option>success</option>
          <option>deny</option>
          <option>fail</option>
        </Select>
        <TextField label="Text" type="search" wide value={typed} onChange={(event) => setTyped(event.target.value)} />
        <Button type="submit">Search</Button>
      </form>
      <section className="panel">
        <Listing
          name="Audit log"
          queryKey={["tenant", slug, "audit", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/audit", { params: { path, query: { ...filters, ...page } }, signal }))
          }
          {...(live ? { every: 2_000 } : {})}
          columns={columns}
          rowKey={(it) => it.id}
          exported={(it) => ({
            seq: it.seq,
            at: it.at,
            category: it.category,
            action: it.action,
            outcome: it.outcome,
            actor: it.actor,
            object_type: it.object_type,
            object_id: it.object_id,
            detail: JSON.stringify(it.detail),
            leaf: it.leaf,
          })}
          empty={<Empty title="Nothing matches">Choose another category or outcome, or search for another text.</Empty>}
        />
      </section>
      {shown && (
        <Dialog title={`Record ${shown.seq}: ${shown.action}`} onClose={() => setShown(undefined)}>
          <Facts
            of={[
              ["When", <When key="when" at={shown.at} />],
              ["Who", shown.actor],
              ["About", `${shown.object_type} ${shown.object_id}`],
              ["Outcome", <Badge key="outcome" word={shown.outcome} />],
              ["Leaf of the tree", <code key="leaf">{shown.leaf}</code>],
            ]}
          />
          <Json name="Details" value={shown.detail} />
          <ProofOf seq={shown.seq} />
          <div className="actions">
            <Button onClick={() => setShown(undefined)}>Close</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}

/** The proof that a record is in the log, as a file that needs no server. */
function ProofOf({ seq }: { seq: number }) {
  const { slug } = useTenant();
  const [failed, setFailed] = useState<unknown>();
  const get = async () => {
    setFailed(undefined);
    try {
      const params = { path: { tenant: slug }, query: { seq: String(seq) } } as never;
      const text = await take(api.GET("/api/v1/tenants/{tenant}/log/proof", { params, parseAs: "text" }));
      save(`record-${seq}.tlog-proof`, "text/plain", text as string);
    } catch (error) {
      setFailed(error);
    }
  };
  return (
    <div className="stack tight">
      {failed !== undefined && <Failed {...told(failed)} />}
      <div className="row">
        <Button small onClick={() => void get()}>
          Save the proof that it is in the log
        </Button>
      </div>
    </div>
  );
}

/** The signed head: whoever keeps one can prove later that nothing before it was changed. */
function Checkpoint() {
  const { slug } = useTenant();
  const path = { tenant: slug };
  const log = useQuery({
    queryKey: ["tenant", slug, "log"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/log", { params: { path }, signal })),
  });
  const [verified, setVerified] = useState<Schemas["LogVerification"]>();
  const [failed, setFailed] = useState<unknown>();
  const attempt = async (work: () => Promise<void>) => {
    setFailed(undefined);
    try {
      await work();
    } catch (error) {
      setFailed(error);
    }
  };
  const keep = () =>
    attempt(async () => {
      const text = await take(api.GET("/api/v1/tenants/{tenant}/log/checkpoint", { params: { path }, parseAs: "text" }));
      save(`${slug}.checkpoint`, "text/plain", text as string);
    });
  const verify = () => attempt(async () => setVerified(await take(api.GET("/api/v1/tenants/{tenant}/log/verify", { params: { path } }))));
  return (
    <Panel
      title="The log’s tree"
      action={
        <span className="row">
          <Button small onClick={() => void verify()}>
            Have the server verify it
          </Button>
          <Button small onClick={() => void keep()}>
            Save the checkpoint
          </Button>
        </span>
      }
    >
      <div className="stack">
        {log.isPending ? (
          <Loading rows={2} />
        ) : log.isError ? (
          <Failed {...told(log.error)} onRetry={() => void log.refetch()} />
        ) : (
          <Facts
            of={[
              ["Records", log.data.size.toLocaleString("en")],
              ["Signed by", <code key="key">{log.data.fingerprint}</code>],
            ]}
          />
        )}
        {failed !== undefined && <Failed {...told(failed)} />}
        {verified && (
          <Notice kind={verified.faults.length === 0 ? "good" : "wrong"}>
            {verified.faults.length === 0
              ? `${verified.records} records and ${verified.checkpoints} checkpoints bear each other out.`
              : verified.faults.map((fault) => `${fault.problem}${fault.seq ? ` (record ${fault.seq})` : ""}`).join("; ")}
          </Notice>
        )}
      </div>
    </Panel>
  );
}
