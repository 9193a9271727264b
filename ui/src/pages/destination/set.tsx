// Sets of SSH hosts: making one, changing which hosts are in it, and who is in it now.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take, takeTagged, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { useChange } from "../../list/change";
import type { Load } from "../../list/keyset";
import { lost } from "../../list/lost";
import { More, rowsOf, useGrowing } from "../../list/more";
import { useOver } from "../../list/over";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { labelsOf, textOf } from "../fleet/labels";

type Destination = Schemas["Destination"];

const PATH = "/api/v1/tenants/{tenant}/destinations/{destination}/host-set";
const HELP = "Names and values between commas, such as role=web, env=prod: a host that has all of them is in the set, also one that comes later. Clusters never are.";

/** What goes by the labels of a destination, in words. */
export function saysByLabels(by: Schemas["ByLabels"]): string {
  const grants = by.grants === 1 ? "1 grant" : `${by.grants} grants`;
  return by.sets.length > 0 ? `${grants}, and the sets ${by.sets.join(", ")}` : grants;
}

export function AddSet({ onClose }: { onClose: (made?: string) => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const [name, setName] = useState("");
  const [selector, setSelector] = useState("");
  const add = async () => {
    const params = { path: { tenant: slug, destination: name.trim() }, header: { "If-None-Match": "*" } };
    const body = { selector: labelsOf(selector) as Record<string, never> };
    if (await change(() => take(api.PUT(PATH, { params, body })))) onClose(params.path.destination);
  };
  return (
    <Dialog title="Add a set of hosts" onClose={() => onClose()} onSubmit={() => add()}>
      {failure}
      <TextField label="Name" help="1 to 63 of a-z, 0-9 and -" required autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />
      <TextField label="Labels of its hosts" help={HELP} required autoComplete="off" value={selector} onChange={(event) => setSelector(event.target.value)} />
      <Actions action="Add" onClose={() => onClose()} />
    </Dialog>
  );
}

export function ChangeSet({ of, onClose }: { of: Destination; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const path = { tenant: slug, destination: of.id };
  const { seen, over } = useOver<{ selector?: Record<string, unknown> | null }>(
    of,
    () => takeTagged(api.GET(PATH, { params: { path } })),
    (it) => [["Labels of its hosts", textOf(it.selector ?? {})]],
  );
  const [typed, setTyped] = useState<string>();
  const selector = typed ?? textOf(seen.selector ?? {});
  const save = async () => {
    const body = { selector: labelsOf(selector) as Record<string, never> };
    const put = (tag: string) => take(api.PUT(PATH, { params: { path, header: { "If-Match": tag } }, body }));
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Change the set ${of.name}`} onClose={onClose} onSubmit={() => save()}>
      {failure}
      <TextField label="Labels of its hosts" help={HELP} required autoComplete="off" value={selector} onChange={(event) => setTyped(event.target.value)} />
      <Notice kind="care">Whoever is granted the set reaches what is in it from then on, and loses what is not, also where a connection is open.</Notice>
      <Actions action="Save" onClose={onClose} />
    </Dialog>
  );
}

function Actions({ action, onClose }: { action: string; onClose: () => void }) {
  return (
    <div className="actions">
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" type="submit">
        {action}
      </Button>
    </div>
  );
}

/** The hosts that are in a set now. */
export function SetHosts({ of }: { of: Destination }) {
  const { slug } = useTenant();
  const load: Load<Destination> = (query, signal) => {
    const params = { path: { tenant: slug, destination: of.id }, query };
    return take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}/host-set/hosts", { params, ...(signal ? { signal } : {}) }));
  };
  const query = useGrowing(load, { queryKey: ["tenant", slug, "host-set", of.id], every: 30_000 });
  return (
    <Panel title="Its hosts now" flush>
      {query.isPending ? (
        <Loading rows={3} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : rowsOf(query.data).length === 0 ? (
        <Empty title="No hosts">A host is in the set as soon as it has these labels, which are set at its own page.</Empty>
      ) : (
        <>
          <Table
            name="Hosts of the set"
            rows={rowsOf(query.data)}
            rowKey={(it) => it.id}
            columns={[
              { head: "Host", kind: "main", cell: (it) => <Link to={to.destination(slug, it.name)}>{it.name}</Link> },
              { head: "Labels", cell: (it) => textOf(it.labels) },
              { head: "Accounts", cell: (it) => it.roles.join(", ") },
              { head: "Relay", cell: (it) => it.relay_name ?? it.relay ?? "none" },
            ]}
          />
          <More query={query} />
        </>
      )}
    </Panel>
  );
}
