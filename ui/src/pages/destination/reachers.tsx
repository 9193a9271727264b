// Who reaches a destination now, and through what.
import type { Schemas } from "../../api/client";
import { Table } from "../../design/table";
import { When } from "../../design/time";

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
