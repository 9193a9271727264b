// Recordings of sessions: who was where, and what they did.
import { useEffect, useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { plain } from "../../design/plain";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilters } from "../../list/keyset";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Recording = Schemas["Recording"];

/** What somebody did, in a line. */
export function told(target: Recording["target"]): string {
  const words =
    target.kind === "kubernetes"
      ? `${target.action} ${target.namespace}/${target.pod} ${(target.command ?? []).join(" ")}`
      : `ssh ${target.account} ${target.command ?? ""}`;
  return plain(words).trim();
}

export default function RecordingsPage() {
  useTitle("Recordings");
  const { slug } = useTenant();
  const path = { tenant: slug };
  const [{ user, destination }, setFilters] = useFilters(["user", "destination"]);
  const [typed, setTyped] = useState({ user, destination });
  // Going back shows what was searched for then.
  useEffect(() => setTyped({ user, destination }), [user, destination]);
  const filters = Object.fromEntries(Object.entries({ user, destination }).filter(([, value]) => value));
  const columns: Column<Recording>[] = [
    { head: "Began", kind: "nowrap", cell: (it) => <When at={it.began_at} /> },
    {
      head: "What",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.recording(slug, it.id)}>{told(it.target)}</Link>
          <div className="under">{plain(it.role)}</div>
        </>
      ),
    },
    { head: "Who", cell: (it) => plain(it.user) },
    { head: "Where", cell: (it) => plain(it.destination_name) },
    { head: "State", cell: (it) => <Badge word={it.state.replace("_", " ")} /> },
  ];
  return (
    <>
      <Head title="Recordings" about="Sessions at destinations, as their relays recorded them. Seeing one is in the audit log." />
      <form
        className="filters"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setFilters({ user: typed.user.trim(), destination: typed.destination.trim() });
        }}
      >
        <TextField label="User" type="search" value={typed.user} onChange={(event) => setTyped({ ...typed, user: event.target.value })} />
        <TextField
          label="Destination"
          type="search"
          value={typed.destination}
          onChange={(event) => setTyped({ ...typed, destination: event.target.value })}
        />
        <Button type="submit">Search</Button>
      </form>
      <section className="panel">
        <Listing
          name="Recordings"
          queryKey={["tenant", slug, "recordings", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/recordings", { params: { path, query: { ...filters, ...page } }, signal }))
          }
          columns={columns}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            began_at: it.began_at,
            ended_at: it.ended_at ?? "",
            state: it.state,
            user: it.user,
            destination: it.destination_name,
            role: it.role,
            what: told(it.target),
            sha256: it.sha256 ?? "",
          })}
          empty={
            user || destination ? (
              <Empty title="Nothing matches">Search for another user, or another destination.</Empty>
            ) : (
              <Empty title="No recordings" action={<Link to={to.security(slug)}>What is recorded</Link>}>
                Sessions with kubectl exec and attach, and on hosts through a relay, are recorded.
              </Empty>
            )
          }
        />
      </section>
    </>
  );
}
