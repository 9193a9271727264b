// The relay that a destination hangs on.
import { told } from "../../api/client";
import { Select, TextField } from "../../design/field";
import { Failed } from "../../design/state";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { useActiveRelays } from "../fleet/active";

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
  const query = useActiveRelays();
  if (!tenant.can("fleet:manage") || lost(query)) {
    return (
      <>
        {lost(query) && <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
        <TextField label="Relay" help={`${help} Its id, such as rly_…`} value={relay} onChange={(event) => onChange(event.target.value.trim())} />
      </>
    );
  }
  const active = query.data?.relays ?? [];
  return (
    <Select label="Relay" help={help} value={relay} onChange={(event) => onChange(event.target.value)}>
      {none !== undefined && <option value="">{none}</option>}
      {/* The one that it hangs on stays to be chosen, also where it is let in no more: which is known once all are. */}
      {relay && !active.some((it) => it.id === relay) && (
        <option value={relay}>{query.data?.complete ? `${relay} (not let in)` : relay}</option>
      )}
      {none === undefined && !relay && <option value="">none now</option>}
      {active.map((it) => (
        <option key={it.id} value={it.id}>
          {it.health === "online" ? it.name : `${it.name} (${it.health ?? "unseen"})`}
        </option>
      ))}
    </Select>
  );
}
