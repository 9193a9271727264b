// The settings of a plugin as a form, made from what the plugin says of itself; and who does the work.
import { useQuery } from "@tanstack/react-query";
import { api, type Schemas, take, told } from "../../api/client";
import { Select, TextArea, TextField } from "../../design/field";
import { Prose } from "../../design/prose";
import { Failed } from "../../design/state";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { useActiveRelays } from "../fleet/active";

export type Settings = Record<string, string>;

/** A setting is JSON where it can be, as on the command line: `true`, `3`, `["a", "b"]`; else text. */
function value(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** The settings that were filled in, as the API takes them. */
export function configOf(settings: Settings): Record<string, never> {
  const set = Object.entries(settings).filter(([, text]) => text.trim());
  return Object.fromEntries(set.map(([key, text]) => [key, value(text.trim())])) as Record<string, never>;
}

/** The other way: a text that would be read as something else is shown as JSON. */
export function settingsOf(config: Record<string, unknown>): Settings {
  const isPlain = (of: unknown): of is string => typeof of === "string" && of.trim() === of && value(of) === of;
  return Object.fromEntries(Object.entries(config).map(([key, of]) => [key, isPlain(of) ? of : JSON.stringify(of)]));
}

interface SettingsProps {
  plugin: Schemas["Plugin"];
  settings: Settings;
  onChange: (settings: Settings) => void;
}

export function SettingsFields({ plugin, settings, onChange }: SettingsProps) {
  return plugin.settings.map((it) => (
    <TextArea
      key={it.key}
      rows={1}
      className="growing"
      spellCheck={false}
      label={it.key}
      help={<Prose text={it.help} />}
      placeholder={it.example}
      value={settings[it.key] ?? ""}
      onChange={(event) => onChange({ ...settings, [it.key]: event.target.value })}
    />
  ));
}

export function usePlugins() {
  return useQuery({ queryKey: ["plugins"], queryFn: ({ signal }) => take(api.GET("/api/v1/plugins", { signal })) });
}

/** Who does it: a server, or one of the relays that are let in. Who may not see them names one. */
export function RelayField({ relay, onChange }: { relay: string; onChange: (relay: string) => void }) {
  const tenant = useTenant();
  const query = useActiveRelays();
  if (!tenant.can("fleet:manage") || lost(query)) {
    return (
      <>
        {lost(query) && <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
        <TextField
          label="Relay"
          help="The name of the relay that does it; empty: a server does"
          value={relay}
          onChange={(event) => onChange(event.target.value)}
        />
      </>
    );
  }
  const active = query.data?.relays ?? [];
  // One that is named already stays named, also when it is let in no more.
  const others = relay && !active.some((it) => it.id === relay) ? [relay] : [];
  return (
    <Select label="Where" value={relay} onChange={(event) => onChange(event.target.value)}>
      <option value="">A server does it</option>
      {active.map((it) => (
        <option key={it.id} value={it.id}>
          {`Relay ${it.name}${it.health === "online" ? "" : ` (${it.health ?? "unseen"})`}`}
        </option>
      ))}
      {others.map((it) => (
        <option key={it}>{it}</option>
      ))}
    </Select>
  );
}
