// Trying a credential: what a job would begin with is asked, nothing is stored, and what is missing is told.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Failed, Loading, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";
import { configOf, RelayField, type Settings, SettingsFields, settingWrong, usePlugins } from "./settings";

type Validation = Schemas["Validation"];
type Check = Schemas["Check"];

const isOver = (it: Validation) => !["queued", "running"].includes(it.status);
/** What is missing stands first. */
const ORDER = ["denied", "failed", "good", "not_tried"];

interface Asked {
  plugin: string;
  credential: string | null;
  relay: string | null;
  config: Record<string, never>;
}

/** Starts a validation and asks for it until it has ended. */
export function useValidation() {
  const { slug } = useTenant();
  const withProof = useWithProof();
  const client = useQueryClient();
  const [id, setId] = useState<string>();
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const query = useQuery({
    queryKey: ["tenant", slug, "validation", id ?? ""],
    queryFn: ({ signal }) => {
      const params = { path: { tenant: slug, validation: id ?? "" } };
      return take(api.GET("/api/v1/tenants/{tenant}/validations/{validation}", { params, signal }));
    },
    enabled: id !== undefined,
    refetchInterval: (of) => (of.state.data && isOver(of.state.data) ? false : 700),
  });
  const start = async (body: Asked) => {
    setFailed(undefined);
    setId(undefined);
    setBusy(true);
    try {
      const params = { path: { tenant: slug } };
      const made = await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/validations", { params, body })));
      setId(made.id);
      await client.invalidateQueries({ queryKey: ["tenant", slug, "credentials"] });
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  const ended = query.data && isOver(query.data) ? query.data : undefined;
  return {
    start,
    running: busy || (id !== undefined && !ended && !lost(query)),
    shown: id === undefined ? undefined : query.data,
    failure: failed ?? (lost(query) ? query.error : undefined),
  };
}

function summary(it: Validation): { kind: "good" | "care" | "wrong"; text: string } {
  const count = (outcome: string) => it.checks.filter((check) => check.outcome === outcome).length;
  const tried = it.checks.length - count("not_tried");
  if (it.status === "passed") return { kind: "good", text: `Everything that was tried is answered: ${tried} of ${tried}.` };
  if (it.status === "incomplete") {
    const what = [count("denied") && `${count("denied")} denied`, count("failed") && `${count("failed")} failed`].filter(Boolean);
    return { kind: "care", text: `${count("good")} of ${tried} are answered${what.length ? `, ${what.join(" and ")}` : ""}: a job would be partial.` };
  }
  return { kind: "wrong", text: tried === 0 ? "Nothing could be tried." : "Nothing that was tried is answered: a job would fail." };
}

/** What a validation says, while it runs and when it has ended. */
export function Outcome({ of: { running, shown, failure }, plugin }: { of: ReturnType<typeof useValidation>; plugin: Schemas["Plugin"] | undefined }) {
  const end = useRef<HTMLDivElement>(null);
  // The form before it may be longer than the screen.
  useEffect(() => {
    // Newer browsers answer with a promise, which is no clean-up.
    void end.current?.scrollIntoView({ block: "nearest" });
  }, [running, shown?.status, failure]);
  return (
    <div ref={end}>
      <Told running={running} shown={shown} failure={settingWrong(plugin, failure) ? undefined : failure} />
    </div>
  );
}

function Told({ running, shown, failure }: { running: boolean; shown: Validation | undefined; failure: unknown }) {
  if (failure !== undefined) return <Failed {...told(failure)} />;
  if (running) {
    return (
      <div role="status" className="stack tight">
        <span className="small muted">{shown?.status === "running" ? "Trying what a job would begin with…" : "Waiting for whoever does it…"}</span>
        <progress aria-label="Validation" />
      </div>
    );
  }
  if (!shown) return null;
  const { kind, text } = summary(shown);
  return (
    <div className="stack tight">
      <Notice kind={kind}>
        <strong>{text}</strong>
        {shown.error && <div className="small">{shown.error}</div>}
      </Notice>
      {shown.checks.length > 0 && <Checks of={shown.checks} />}
    </div>
  );
}

function Checks({ of }: { of: Check[] }) {
  const sorted = of.map((it, at) => ({ ...it, at })).sort((a, b) => ORDER.indexOf(a.outcome) - ORDER.indexOf(b.outcome) || a.at - b.at);
  return (
    <div className="checks">
      <Table
        name="What was tried"
        rows={sorted}
        rowKey={(it) => String(it.at)}
        columns={[
          {
            head: "Tried",
            kind: "main",
            cell: (it) => (
              <>
                <span className="mono">{it.what}</span>
                {it.reason && <div className="under">{it.reason}</div>}
              </>
            ),
          },
          { head: "Outcome", cell: (it) => <Badge word={it.outcome.replace("_", " ")} /> },
        ]}
      />
    </div>
  );
}

/** Validates one credential with settings that say what is tried. */
export function ValidateDialog({ credential, onClose }: { credential: Schemas["Credential"]; onClose: () => void }) {
  const tenant = useTenant();
  const plugins = usePlugins();
  const validation = useValidation();
  const [settings, setSettings] = useState<Settings>({});
  const [relay, setRelay] = useState("");
  const plugin = plugins.data?.items.find((it) => it.name === credential.plugin);
  const start = () =>
    validation.start({ plugin: credential.plugin, credential: credential.id, relay: relay || null, config: configOf(settings) });
  return (
    <Dialog title={`Validate ${credential.name}`} onClose={onClose} onSubmit={() => start()}>
      <p className="muted small">
        What a job with these settings would begin with is tried once, and nothing is stored of what is seen. It takes a minute at most.
      </p>
      {plugins.isPending ? <Loading rows={3} /> : plugin && <SettingsFields plugin={plugin} settings={settings} onChange={setSettings} failed={validation.failure} />}
      <RelayField relay={relay} onChange={setRelay} />
      <Outcome of={validation} plugin={plugin} />
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
        <Button kind="primary" type="submit" busy={validation.running} reason={tenant.lacks("jobs:manage")}>
          {validation.running ? "Validating…" : "Validate"}
        </Button>
      </div>
    </Dialog>
  );
}
