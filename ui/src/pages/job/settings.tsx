// The settings of a plugin as a form, made from what the plugin says of itself; and who does the work.
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { api, Problem, type Schemas, take, told } from "../../api/client";
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

type Setting = Schemas["PluginSetting"];

/** What an error says of a setting, where it is of one: it is shown there, and not above the form. */
export function settingWrong(plugin: Schemas["Plugin"] | undefined, failed: unknown): { key: string; message: string } | undefined {
  const field = failed instanceof Problem ? failed.field : undefined;
  return field && plugin?.settings.some((it) => it.key === field) ? { key: field, message: told(failed).message } : undefined;
}

interface SettingsProps {
  plugin: Schemas["Plugin"];
  settings: Settings;
  onChange: (settings: Settings) => void;
  /** What the server refused last. */
  failed: unknown;
}

export function SettingsFields({ plugin, settings, onChange, failed }: SettingsProps) {
  const wrong = settingWrong(plugin, failed);
  return plugin.settings.map((it) => (
    <SettingField
      key={it.key}
      of={it}
      wrong={wrong?.key === it.key ? wrong.message : undefined}
      value={settings[it.key] ?? ""}
      onChange={(value) => onChange({ ...settings, [it.key]: value })}
    />
  ));
}

interface SettingProps {
  of: Setting;
  wrong: string | undefined;
  value: string;
  onChange: (value: string) => void;
}

/** A field as the setting's kind is; empty means the plugin's default. */
function SettingField({ of, wrong, value, onChange }: SettingProps) {
  const choices = of.choices ?? [];
  const around = { label: of.key, help: <Prose text={of.help} />, wrong, required: of.required ?? false };
  if (of.kind === "list" && choices.length > 0) return <Some of={of} wrong={wrong} value={value} onChange={onChange} />;
  if (of.kind === "flag" || choices.length > 0) {
    return (
      <Select {...around} value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">{of.required ? "Choose…" : "As the plugin does by itself"}</option>
        {(of.kind === "flag" ? ["true", "false"] : choices).map((it) => (
          <option key={it}>{it}</option>
        ))}
      </Select>
    );
  }
  if (of.kind === "number") {
    const bounds = { min: of.least ?? undefined, max: of.most ?? undefined };
    return <TextField {...around} type="number" step={1} {...bounds} placeholder={of.example} value={value} onChange={(event) => onChange(event.target.value)} />;
  }
  return (
    <TextArea
      {...around}
      rows={of.kind === "lines" ? 3 : 1}
      className="growing"
      spellCheck={false}
      placeholder={of.example}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

/** Some of a few: none chosen is the plugin's default. */
function Some({ of, wrong, value, onChange }: SettingProps) {
  const id = useId();
  const chosen = items(value);
  const known = of.choices ?? [];
  const toggle = (name: string) => {
    const now = chosen.includes(name) ? chosen.filter((it) => it !== name) : [...chosen, name];
    onChange(now.join(","));
  };
  return (
    <fieldset className="field" aria-describedby={wrong ? `${id}-help ${id}-wrong` : `${id}-help`}>
      <legend>{of.key}</legend>
      <div className="row">
        {[...known, ...chosen.filter((it) => !known.includes(it))].map((name) => (
          <label key={name} className="check">
            <input type="checkbox" checked={chosen.includes(name)} onChange={() => toggle(name)} />
            {name}
          </label>
        ))}
      </div>
      <span id={`${id}-help`} className="help">
        <Prose text={of.help} />
      </span>
      {wrong && (
        <span id={`${id}-wrong`} className="wrong" role="alert">
          {wrong}
        </span>
      )}
    </fieldset>
  );
}

/** The items of a list, however it was given: as text with commas between, or as an array. */
function items(text: string): string[] {
  const of = value(text);
  const all = Array.isArray(of) ? of.map(String) : text.split(",");
  return all.map((it) => it.trim()).filter(Boolean);
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
