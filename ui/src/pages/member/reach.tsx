// What a member reaches through Cairn, and by which grants: the other end of a destination's "Who reaches it".
import { api, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import type { Load } from "../../list/keyset";
import { lost } from "../../list/lost";
import { More, rowsOf, useGrowing } from "../../list/more";
import { useTenant } from "../../session/me";
import { eligibleOf, Glass, MayAsk } from "../grant/eligible";

export function ReachDialog({ user, email, onClose }: { user: string; email: string; onClose: () => void }) {
  const { slug } = useTenant();
  const load: Load<Schemas["Reach"]> = (query, signal) => {
    const params = { path: { tenant: slug, user }, query };
    return take(api.GET("/api/v1/tenants/{tenant}/members/{user}/reach", { params, ...(signal ? { signal } : {}) }));
  };
  // Asked anew: an answer of before a grant was taken away would be wrong.
  const query = useGrowing(load, { queryKey: ["tenant", slug, "member-reach", user], anew: true });
  return (
    <Dialog title={`What ${email} reaches`} onClose={onClose}>
      {query.isPending ? (
        <Loading rows={2} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : rowsOf(query.data).length === 0 ? (
        <Empty title="Nothing">No grant lets them in anywhere now. Their role in the tenant opens no destination.</Empty>
      ) : (
        <Table
          name={`What ${email} reaches`}
          rows={rowsOf(query.data)}
          rowKey={(it) => `${it.destination} ${it.role} ${(it.namespaces ?? []).join(" ")}`}
          columns={[
            { head: "Destination", kind: "main", cell: (it) => it.name },
            { head: "As", kind: "nowrap", cell: (it) => it.role },
            { head: "Where", cell: (it) => it.namespaces?.join(", ") ?? "everywhere" },
            { head: "Until", kind: "nowrap", cell: (it) => (it.until ? <When at={it.until} /> : "taken away") },
            {
              head: "Why",
              cell: (it) => it.why?.map((why) => <div key={`${why.grant} ${why.group ?? ""}`}>{inWords(why)}</div>),
            },
          ]}
        />
      )}
      <More query={query} />
      <Glass pages={query.data?.pages} everywhere />
      <MayAsk
        name={`What ${email} may ask for`}
        queryKey={["tenant", slug, "member-eligible", user]}
        load={eligibleOf({ slug, user })}
        about="They may ask for this by eligible grants, which give nothing until somebody else approves it."
      />
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}

function inWords({ group, origin, reason }: Schemas["Why"]): string {
  return `${group ? `group ${group}` : "direct"} (${origin}): ${reason}`;
}
