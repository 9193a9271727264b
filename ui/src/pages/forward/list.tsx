// Where audit records are sent, and how that goes. Where to is the configuration's: here it is only looked at.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { count } from "../../design/count";
import { Dialog } from "../../design/dialog";
import { Head } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty } from "../../design/state";
import { type Column, Table } from "../../design/table";
import { When } from "../../design/time";
import { Listing } from "../../list/keyset";
import { useTitle } from "../../shell/title";

type Forward = Schemas["Forward"];

const QUERY_KEY = ["platform", "forwards"];
const KINDS: Record<string, string> = { syslog: "syslog over TLS", "splunk-hec": "Splunk HTTP event collector" };
const NO_LOG = "No log goes there: no tenant has a name that it is configured for.";
const SAMPLE = `[[audit.forward]]
name = "siem"
kind = "syslog"                       # RFC 5424 over TLS; or splunk-hec
url = "tls://siem.example.com:6514"
format = "jsonl"                      # or cef, ocsf
logs = ["*"]                          # or slugs of tenants, and platform`;

/** `logs`: of a place that takes several. */
function state(of: { failures: number; waiting: number; logs?: unknown[] }): string {
  if (of.failures > 0) return "failing";
  if (of.logs?.length === 0) return "idle";
  return of.waiting > 0 ? "sending" : "healthy";
}

export default function ForwardsPage() {
  useTitle("Integrations");
  const [shown, setShown] = useState<string>();
  const columns: Column<Forward>[] = [
    {
      head: "To",
      kind: "main",
      cell: (it) => (
        <>
          {it.name}
          <div className="under">{it.address}</div>
          {it.error && <div className="under">{it.error}</div>}
          {it.logs.length === 0 && <div className="under">{NO_LOG}</div>}
        </>
      ),
    },
    { head: "By", cell: (it) => KINDS[it.kind] ?? it.kind },
    { head: "As", cell: (it) => <code>{it.format}</code> },
    { head: "State", cell: (it) => <Badge word={state(it)} /> },
    { head: "Delivered", kind: "number", cell: (it) => count(it.delivered) },
    { head: "Waiting", kind: "number", cell: (it) => count(it.waiting) },
    { head: "Last delivery", kind: "nowrap", cell: (it) => <When at={it.delivered_at} /> },
    {
      head: "",
      cell: (it) => (
        <Button small aria-label={`Logs that go to ${it.name}`} onClick={() => setShown(it.name)}>
          Logs
        </Button>
      ),
    },
  ];
  return (
    <>
      <Head
        title="Integrations"
        about="Where audit records are sent. What cannot be delivered waits in the log, and is sent as soon as it can be; nothing is left out."
      />
      <section className="panel" aria-label="Where audit records are sent">
        <Listing
          name="Integrations"
          queryKey={QUERY_KEY}
          load={(_, signal) => take(api.GET("/api/v1/audit-forwards", { signal }))}
          every={5_000}
          columns={columns}
          // What the dialog shows is what is known now.
          actions={(rows) => {
            const of = rows.find((it) => it.name === shown);
            return of && <LogsDialog of={of} onClose={() => setShown(undefined)} />;
          }}
          rowKey={(it) => it.name}
          exported={({ logs, ...it }) => ({ ...it, state: state({ ...it, logs }), logs: logs.length })}
          empty={
            <Empty title="Records are sent nowhere" action={<Copyable name="Part of the configuration" text={SAMPLE} />}>
              Say in the server’s configuration where to, and start it again. What was recorded before is sent too.
            </Empty>
          }
        />
      </section>
    </>
  );
}

function LogsDialog({ of, onClose }: { of: Forward; onClose: () => void }) {
  return (
    <Dialog title={`Logs that go to ${of.name}`} onClose={onClose}>
      {of.logs.length === 0 ? (
        <p>{NO_LOG}</p>
      ) : (
        <Table
          name="Logs"
          // What is in trouble stands first.
          rows={[...of.logs].sort((a, b) => b.failures - a.failures || b.waiting - a.waiting || a.log.localeCompare(b.log))}
          rowKey={(it) => it.log}
          columns={[
            {
              head: "Log",
              kind: "main",
              cell: (it) => (
                <>
                  {it.log === "platform" ? "the installation’s own" : it.log}
                  {it.error && <div className="under">{it.error}</div>}
                </>
              ),
            },
            { head: "State", cell: (it) => <Badge word={state(it)} /> },
            { head: "Delivered", kind: "number", cell: (it) => count(it.delivered) },
            { head: "Waiting", kind: "number", cell: (it) => count(it.waiting) },
            { head: "Failed in a row", kind: "number", cell: (it) => count(it.failures) },
            { head: "Last delivery", kind: "nowrap", cell: (it) => <When at={it.delivered_at} /> },
          ]}
        />
      )}
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}
