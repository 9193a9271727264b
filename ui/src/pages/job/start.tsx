// Starting a job: the form is what the plugin says of its settings and credentials.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Failed, Loading } from "../../design/state";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";
import { configOf, RelayField, type Settings, SettingsFields, settingWrong, usePlugins } from "./settings";
import { Outcome, useValidation } from "./validate";

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
  const plugins = usePlugins();
  const validation = useValidation();
  const credentials = useQuery({
    queryKey: ["tenant", slug, "credentials", "all"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/credentials", { params: { path, query: { limit: "500" } }, signal })),
    enabled: tenant.can("credentials:manage"),
  });
  const [plugin, setPlugin] = useState("host");
  const [credential, setCredential] = useState("");
  const [relay, setRelay] = useState("");
  const [settings, setSettings] = useState<Settings>({});
  const [repeat, setRepeat] = useState("");
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const chosen = plugins.data?.items.find((it) => it.name === plugin);
  const fitting = credentials.data?.items.filter((it) => it.plugin === plugin) ?? [];
  const body = () => ({ plugin, config: configOf(settings), credential: credential.trim() || null, relay: relay.trim() || null });
  const start = async () => {
    setBusy(true);
    setFailed(undefined);
    try {
      if (repeat) {
        const repeated = { ...body(), interval_s: Number(repeat) };
        await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/schedules", { params: { path }, body: repeated })));
        await client.invalidateQueries({ queryKey: ["tenant", slug] });
        onClose();
      } else {
        const job = await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/jobs", { params: { path }, body: body() })));
        void navigate(to.job(slug, job.id));
      }
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  return (
    <Dialog title="Run a job" onClose={onClose} onSubmit={() => start()}>
      {failed !== undefined && !settingWrong(chosen, failed) && <Failed {...told(failed)} />}
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
      {chosen && <SettingsFields plugin={chosen} settings={settings} onChange={setSettings} failed={failed ?? validation.failure} />}
      <RelayField relay={relay} onChange={setRelay} />
      <Select label="How often" value={repeat} onChange={(event) => setRepeat(event.target.value)}>
        {REPEATS.map(([seconds, name]) => (
          <option key={seconds} value={seconds}>
            {name}
          </option>
        ))}
      </Select>
      <Outcome of={validation} plugin={chosen} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button busy={validation.running} onClick={() => void validation.start(body())}>
          {validation.running ? "Validating…" : "Validate"}
        </Button>
        <Button kind="primary" type="submit" busy={busy}>
          {repeat ? "Schedule" : "Run"}
        </Button>
      </div>
    </Dialog>
  );
}
