// The audit log of a tenant, and of the installation: search, what comes in, the signed head, proofs, and a file of all that matches.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, type Schemas, take, takeBytes, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Facts, Json } from "../../design/facts";
import { Select, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { type Column, Table } from "../../design/table";
import { Moment } from "../../design/time";
import { save } from "../../list/export";
import { Listing, useFilter, useFilters } from "../../list/keyset";
import { lost } from "../../list/lost";
import { TypedField } from "../../list/typed";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { prove, type Proved, Unproved } from "./proof";
import { Link, useSearchParams } from "react-router";

type AuditRecord = Schemas["AuditRecord"];

const CATEGORIES = ["authentication", "authorization", "credential", "discovery", "user", "evidence", "access", "system"];

type Search = Record<string, string>;

/** One log: the tenant's, or the installation's own. */
export interface Source {
  name: string;
  title: string;
  about: string;
  queryKey: unknown[];
  records: (query: Search, signal?: AbortSignal) => Promise<Schemas["List_AuditRecord"]>;
  file: (query: Search) => Promise<BlobPart>;
  log: (signal?: AbortSignal) => Promise<Schemas["Log"]>;
  checkpoint: () => Promise<string>;
  checkpoints: (query: Search, signal?: AbortSignal) => Promise<Schemas["List_SignedCheckpoint"]>;
  verify: (query: Search) => Promise<Schemas["LogVerification"]>;
  proof: (seq: number) => Promise<string>;
}

export default function AuditPage() {
  const { slug } = useTenant();
  const path = { tenant: slug };
  return (
    <AuditLog
      of={{
        name: slug,
        title: "Audit log",
        about: "Every change with who made it, every denial and every sign-in. Nothing in it can be changed unseen.",
        queryKey: ["tenant", slug, "audit"],
        records: (query, signal) => take(api.GET("/api/v1/tenants/{tenant}/audit", { params: { path, query }, ...(signal && { signal }) })),
        file: (query) => takeBytes(api.GET("/api/v1/tenants/{tenant}/audit-export", { params: { path, query }, parseAs: "arrayBuffer" })),
        log: (signal) => take(api.GET("/api/v1/tenants/{tenant}/log", { params: { path }, ...(signal && { signal }) })),
        checkpoint: async () => String(await take(api.GET("/api/v1/tenants/{tenant}/log/checkpoint", { params: { path }, parseAs: "text" }))),
        checkpoints: (query, signal) =>
          take(api.GET("/api/v1/tenants/{tenant}/log/checkpoints", { params: { path, query }, ...(signal && { signal }) })),
        verify: (query) => take(api.GET("/api/v1/tenants/{tenant}/log/verify", { params: { path, query } as never })),
        proof: async (seq) => {
          const params = { path, query: { seq: String(seq) } } as never;
          return String(await take(api.GET("/api/v1/tenants/{tenant}/log/proof", { params, parseAs: "text" })));
        },
      }}
    />
  );
}

export function AuditLog({ of }: { of: Source }) {
  useTitle(of.title);
  const [category, setCategory] = useFilter("category");
  const [outcome, setOutcome] = useFilter("outcome");
  const [{ text, actor }, setWords] = useFilters(["text", "actor"]);
  const [since, setSince] = useFilter("since", { typed: true });
  const [until, setUntil] = useFilter("until", { typed: true });
  const [typed, setTyped] = useState({ text, actor });
  // Going back shows what was searched for then.
  useEffect(() => setTyped({ text, actor }), [text, actor]);
  const day = (at: string) => (/^\d{4}-\d{2}-\d{2}$/.test(at) ? `${at}T00:00:00Z` : "");
  const [live, setLive] = useState(false);
  const [search, setSearch] = useSearchParams();
  const page = search.get("page");
  // What comes is on the first page. Whoever turns to another one reads what was.
  useEffect(() => {
    if (page) setLive(false);
  }, [page]);
  const follow = () => {
    setLive(!live);
    if (live || !page) return;
    const first = new URLSearchParams(search);
    first.delete("page");
    setSearch(first);
  };
  const [shown, setShown] = useState<AuditRecord>();
  const filters = Object.fromEntries(
    Object.entries({ category, outcome, actor, text, since: day(since), until: day(until) }).filter(([, value]) => value),
  );
  const columns: Column<AuditRecord>[] = [
    { head: "No", kind: "number", cell: (it) => it.seq },
    { head: "When", kind: "nowrap", cell: (it) => <Moment at={it.at} /> },
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
      <Head title={of.title} about={of.about}>
        <Export of={of} filters={filters} />
        <Button aria-pressed={live} onClick={follow}>
          {live ? "Stop following" : "Follow"}
        </Button>
      </Head>
      <Checkpoint of={of} />
      <form
        className="filters"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setWords({ text: typed.text.trim(), actor: typed.actor.trim() });
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
        <TypedField label="From" type="date" text={since} onType={setSince} />
        <TypedField label="Before" type="date" text={until} onType={setUntil} />
        <TextField label="Who" type="search" value={typed.actor} onChange={(event) => setTyped({ ...typed, actor: event.target.value })} />
        <TextField label="Text" type="search" wide value={typed.text} onChange={(event) => setTyped({ ...typed, text: event.target.value })} />
        <Button type="submit">Search</Button>
      </form>
      <section className="panel">
        <Listing
          name={of.title}
          queryKey={[...of.queryKey, filters]}
          load={(page, signal) => of.records({ ...filters, ...page }, signal)}
          {...(live && !page ? { every: 2_000 } : {})}
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
          empty={
            <Empty title="Nothing matches" action={<Link to={{ search: "" }}>All records</Link>}>
              Choose another category or outcome, or search for another text.
            </Empty>
          }
        />
      </section>
      {shown && (
        <Dialog title={`Record ${shown.seq}: ${shown.action}`} onClose={() => setShown(undefined)}>
          <Facts
            of={[
              ["When", <Moment key="when" at={shown.at} />],
              ["Who", shown.actor],
              ["About", `${shown.object_type} ${shown.object_id}`],
              ["Outcome", <Badge key="outcome" word={shown.outcome} />],
              ["Leaf of the tree", <code key="leaf">{shown.leaf}</code>],
            ]}
          />
          <Json name="Details" value={shown.detail} />
          <ProofOf of={of} record={shown} />
          <div className="actions">
            <Button onClick={() => setShown(undefined)}>Close</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}

/** All that the search finds, for other systems. */
function Export({ of, filters }: { of: Source; filters: Search }) {
  const [format, setFormat] = useState("jsonl");
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>();
  const get = async () => {
    setBusy(true);
    setFailed(undefined);
    try {
      const ends = format === "cef" ? "cef" : "jsonl";
      save(`${of.name}-audit${format === "ocsf" ? ".ocsf" : ""}.${ends}`, "application/octet-stream", await of.file({ ...filters, format }));
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  return (
    <>
      {failed !== undefined && <Failed {...told(failed)} />}
      <Select label="Format" value={format} onChange={(event) => setFormat(event.target.value)}>
        <option value="jsonl">JSON lines</option>
        <option value="cef">CEF</option>
        <option value="ocsf">OCSF</option>
      </Select>
      <Button busy={busy} onClick={() => void get()}>
        {busy ? "Exporting…" : "Export what matches"}
      </Button>
    </>
  );
}

/** The proof that a record is in the log: checked in this browser, or as a file that needs no server. */
function ProofOf({ of, record }: { of: Source; record: AuditRecord }) {
  const [failed, setFailed] = useState<unknown>();
  const [wrong, setWrong] = useState<string>();
  const [proved, setProved] = useState<Proved>();
  const attempt = async (work: () => Promise<void>) => {
    setFailed(undefined);
    setWrong(undefined);
    setProved(undefined);
    try {
      await work();
    } catch (error) {
      if (error instanceof Unproved) setWrong(error.message);
      else setFailed(error);
    }
  };
  const keep = () => attempt(async () => save(`record-${record.seq}.tlog-proof`, "text/plain", await of.proof(record.seq)));
  const check = () =>
    attempt(async () => {
      const [proof, log] = await Promise.all([of.proof(record.seq), of.log()]);
      setProved(await prove(proof, record, log.vkey));
    });
  return (
    <div className="stack tight">
      {failed !== undefined && <Failed {...told(failed)} />}
      {wrong && (
        <div className="notice wrong" role="alert">
          <strong>Do not rely on this record.</strong> The server’s proof does not hold: {wrong}.
        </div>
      )}
      {proved && (
        <Notice kind="good">
          <div className="stack tight">
            <strong>The record is in the log.</strong>
            <span>
              Record {record.seq + 1} of the {proved.size.toLocaleString("en")} under a head that {proved.log} signed.{" "}
              {proved.covers === "operation"
                ? "Its time, operation, object and outcome are as shown. It commits to the actor’s name and the details without saying them: those are not checked here."
                : "It is of evidence that was signed, and commits to it without its time: open the evidence to verify what it says and when."}
            </span>
            {proved.others.length > 0 && (
              <span className="muted small">Also named as signers, and not checked here: {proved.others.join(", ")}.</span>
            )}
            <span className="muted small">
              Verified in this browser against the key <code>{proved.fingerprint}</code>: compare it with what you know by another way.
            </span>
          </div>
        </Notice>
      )}
      <div className="row">
        <Button small onClick={() => void check()}>
          Verify that it is in the log
        </Button>
        <Button small onClick={() => void keep()}>
          Save the proof that it is in the log
        </Button>
      </div>
    </div>
  );
}

/** The signed head: whoever keeps one can prove later that nothing before it was changed. */
function Checkpoint({ of }: { of: Source }) {
  const log = useQuery({ queryKey: [...of.queryKey, "log"], queryFn: ({ signal }) => of.log(signal) });
  const [verified, setVerified] = useState<Schemas["LogVerification"]>();
  const [failed, setFailed] = useState<unknown>();
  const [past, setPast] = useState(false);
  const attempt = async (work: () => Promise<void>) => {
    setFailed(undefined);
    try {
      await work();
    } catch (error) {
      setFailed(error);
    }
  };
  const keep = () => attempt(async () => save(`${of.name}.checkpoint`, "text/plain", await of.checkpoint()));
  // The server compares a part of the log at a time.
  const verify = () =>
    attempt(async () => {
      const sum = { records: 0, checkpoints: 0, faults: [] as Schemas["LogFault"][], size: 0 };
      let from: number | null | undefined = 0;
      while (typeof from === "number") {
        const part: Schemas["LogVerification"] = await of.verify(from === 0 ? {} : { from: String(from) });
        sum.records += part.records;
        sum.checkpoints += part.checkpoints;
        sum.faults.push(...part.faults);
        sum.size = part.size;
        from = part.next;
      }
      setVerified(sum);
    });
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
          <Button small onClick={() => setPast(true)}>
            Earlier ones
          </Button>
        </span>
      }
    >
      <div className="stack">
        {log.isPending ? (
          <Loading rows={2} />
        ) : lost(log) ? (
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
        {past && <Past of={of} onClose={() => setPast(false)} />}
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

/** Heads that were signed before, each with who signed it. */
function Past({ of, onClose }: { of: Source; onClose: () => void }) {
  const heads = useQuery({ queryKey: [...of.queryKey, "checkpoints"], queryFn: ({ signal }) => of.checkpoints({ limit: "50" }, signal) });
  return (
    <Dialog title="Checkpoints so far" onClose={onClose}>
      {heads.isPending ? (
        <Loading rows={3} />
      ) : lost(heads) ? (
        <Failed {...told(heads.error)} onRetry={() => void heads.refetch()} />
      ) : (
        <Table
          name="Checkpoints"
          rows={heads.data.items}
          rowKey={(it) => String(it.size)}
          columns={[
            { head: "Records", kind: "number", cell: (it) => it.size.toLocaleString("en") },
            { head: "Signed", kind: "nowrap", cell: (it) => <Moment at={it.signed_at} /> },
            { head: "Signatures", kind: "number", cell: (it) => it.note.split("\n").filter((line) => line.startsWith("\u2014 ")).length },
            {
              head: "",
              cell: (it) => (
                <Button small aria-label={`Save the checkpoint of ${it.size} records`} onClick={() => save(`${of.name}-${it.size}.checkpoint`, "text/plain", it.note)}>
                  Save
                </Button>
              ),
            },
          ]}
        />
      )}
      <p className="muted small">The newest 50. cairn audit verify --since FILE proves that nothing before one was changed.</p>
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}
