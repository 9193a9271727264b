// Starting a job: the form is what the plugin says of its settings and credentials.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Prose } from "../../design/prose";
import { Failed, Loading } from "../../design/state";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";

/** A setting is JSON where it can be, as on the command line: `true`, `3`, `["a", "b"]`; else text. */
function value(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

const REPEATS: [string, string][] = [
  ["", "Once, now"],
  ["3600", "Every hour"],
  ["86400", "Every day"],
  ["604800", "Every week"],
];

export function StartDialog({ onClose }: { onClose: () => void }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const path = { tenant: slug };
  const navigate = useNavigate();
  const client = useQueryClient();
  const withProof = useWithProof();
  const plugins = useQuery({
    queryKey: ["plugins"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/plugins", { signal })),
  });
  const credentials = useQuery({
    queryKey: ["tenant", slug, "credentials", "all"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/credentials", { params: { path, query: { limit: "500" } }, signal })),
    enabled: tenant.can("credentials:manage"),
  });
  const [plugin, setPlugin] = useState("host");
  const [credential, setCredential] = useState("");
  const [settings, setSettings] = useState<Record<string, string>>({});
  const [repeat, setRepeat] = useState("");
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const chosen = plugins.data?.items.find((it) => it.name === plugin);
  const fitting = credentials.data?.items.filter((it) => it.plugin === plugin) ?? [];
  const start = async () => {
    setBusy(true);
    setFailed(undefined);
    const set = Object.entries(settings).filter(([, text]) => text.trim());
    const config = Object.fromEntries(set.map(([key, text]) => [key, value(text.trim())])) as Record<string, never>;
    const body = { plugin, config, credential: credential.trim() || null };
    try {
      if (repeat) {
        const repeated = { ...body, interval_s: Number(repeat) };
        await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/schedules", { params: { path }, body: repeated })));
        await client.invalidateQueries({ queryKey: ["tenant", slug] });
        onClose();
      } else {
        const job = await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/jobs", { params: { path }, body })));
        void navigate(to.job(slug, job.id));
      }
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  return (
    <Dialog title="Run a job" onClose={onClose} onSubmit={() => void start()}>
      {failed !== undefined && <Failed {...told(failed)} />}
      {plugins.isPending ? (
        <Loading rows={3} />
      ) : (
        <Select
          label="Plugin"
          help={chosen?.about}
          value={plugin}
          onChange={(event) => {
            setPlugin(event.target.value);
            setSettings({});
            setCredential("");
          }}
        >
          {plugins.data?.items.map((it) => (
            <option key={it.name}>{it.name}</option>
          ))}
        </Select>
      )}
      {chosen && chosen.credential_types.length > 0 && (
        <TextField
          label="Credential"
          list="credentials"
          help={fitting.length > 0 ? `Its name: ${fitting.map((it) => it.name).join(", ")}` : "Its name or id, where the plugin needs one"}
          value={credential}
          onChange={(event) => setCredential(event.target.value)}
        />
      )}
      <datalist id="credentials">
        {fitting.map((it) => (
          <option key={it.id} value={it.name} />
        ))}
      </datalist>
      {chosen?.settings.map((it) => (
        <TextField
          key={it.key}
          label={it.key}
          help={<Prose text={it.help} />}
          placeholder={it.example}
          value={settings[it.key] ?? ""}
          onChange={(event) => setSettings({ ...settings, [it.key]: event.target.value })}
        />
      ))}
      <Select label="How often" value={repeat} onChange={(event) => setRepeat(event.target.value)}>
        {REPEATS.map(([seconds, name]) => (
          <option key={seconds} value={seconds}>
            {name}
          </option>
        ))}
      </Select>
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" busy={busy}>
          {repeat ? "Schedule" : "Run"}
        </Button>
      </div>
    </Dialog>
  );
}
