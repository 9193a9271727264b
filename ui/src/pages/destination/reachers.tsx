// Who reaches a destination now, and through what.
import { api, type Schemas, take } from "../../api/client";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import type { Load } from "../../list/keyset";
import { useGrowing } from "../../list/more";
import { useTenant } from "../../session/me";

/** Who reaches a destination, or what of the graph is one. */
export function reachersOf(slug: string, destination: string): Load<Schemas["Reacher"]> {
  return (query, signal) => {
    const params = { path: { tenant: slug, destination }, query };
    return take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}/reachers", { params, ...(signal ? { signal } : {}) }));
  };
}

export function useReachers(destination: string) {
  const { slug } = useTenant();
  return useGrowing(reachersOf(slug, destination), { queryKey: ["tenant", slug, "reachers", destination], anew: true });
}

export function ReachersTable({ name, of }: { name: string; of: Schemas["Reacher"][] }) {
  return (
    <Table
      name={name}
      rows={of}
      rowKey={(it) => `${it.user} ${it.destination} ${it.role} ${(it.namespaces ?? []).join(" ")}`}
      columns={[
        { head: "Who", kind: "main", cell: (it) => it.email },
        { head: "Destination", cell: (it) => it.name },
        { head: "As", kind: "nowrap", cell: (it) => it.role },
        { head: "Where", cell: (it) => it.namespaces?.join(", ") ?? "everywhere" },
        { head: "Through", cell: (it) => it.through.join(", ") },
        { head: "Until", kind: "nowrap", cell: (it) => (it.until ? <When at={it.until} /> : "taken away") },
      ]}
    />
  );
}
