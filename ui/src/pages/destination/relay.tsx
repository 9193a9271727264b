// The relay that a destination hangs on.
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";
import { Select, TextField } from "../../design/field";
import { useTenant } from "../../session/me";

interface RelayChoiceProps {
  /** Its id; empty: none. */
  relay: string;
  /** What it means that there is none, where that may be. */
  none?: string;
  help: string;
  onChange: (relay: string) => void;
}

/** One of the relays that are let in. Who may not see them names one by its id. */
export function RelayChoice({ relay, none, help, onChange }: RelayChoiceProps) {
  const tenant = useTenant();
  const may = tenant.can("fleet:manage");
  const params = { path: { tenant: tenant.slug }, query: { limit: "500" } };
  const relays = useQuery({
    queryKey: ["tenant", tenant.slug, "relay", "all"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/relays", { params, signal })),
    enabled: may,
  });
  if (!may || relays.isError) {
    return (
      <TextField label="Relay" help={`${help} Its id, such as rly_…`} value={relay} onChange={(event) => onChange(event.target.value.trim())} />
    );
  }
  const active = relays.data?.items.filter((it) => it.state === "active") ?? [];
  return (
    <Select label="Relay" help={help} value={relay} onChange={(event) => onChange(event.target.value)}>
      {none !== undefined && <option value="">{none}</option>}
      {/* The one that it hangs on stays to be chosen, also where it is let in no more. */}
      {relay && !active.some((it) => it.id === relay) && <option value={relay}>{`${relay} (not let in)`}</option>}
      {none === undefined && !relay && <option value="">none now</option>}
      {active.map((it) => (
        <option key={it.id} value={it.id}>
          {it.health === "online" ? it.name : `${it.name} (${it.health ?? "unseen"})`}
        </option>
      ))}
    </Select>
  );
}
