// What a member reaches through Cairn, and by which grants: the other end of a destination's "Who reaches it".
import { useQuery } from "@tanstack/react-query";
import { api, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { useTenant } from "../../session/me";

export function ReachDialog({ user, email, onClose }: { user: string; email: string; onClose: () => void }) {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "member-reach", user],
    // Asked anew whenever it is opened: an answer of before a grant was taken away would be wrong.
    gcTime: 0,
    staleTime: 0,
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/members/{user}/reach", { params: { path: { tenant: slug, user } }, signal })),
  });
  return (
    <Dialog title={`What ${email} reaches`} onClose={onClose}>
      {query.isPending ? (
        <Loading rows={2} />
      ) : query.isError ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : query.data.items.length === 0 ? (
        <Empty title="Nothing">No grant lets them in anywhere now. Their role in the tenant opens no destination.</Empty>
      ) : (
        <Table
          name={`What ${email} reaches`}
          rows={query.data.items}
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
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}

function inWords({ group, origin, reason }: Schemas["Why"]): string {
  return `${group ? `group ${group}` : "direct"} (${origin}): ${reason}`;
}
