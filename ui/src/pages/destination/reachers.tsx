// Who reaches a destination now, and through what.
import { useQuery } from "@tanstack/react-query";
import { api, type Schemas, take } from "../../api/client";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { useTenant } from "../../session/me";

export function useReachers(destination: string) {
  const { slug } = useTenant();
  const params = { path: { tenant: slug, destination } };
  return useQuery({
    queryKey: ["tenant", slug, "reachers", destination],
    // Asked anew whenever it is opened, as what a member reaches.
    gcTime: 0,
    staleTime: 0,
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}/reachers", { params, signal })),
  });
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
