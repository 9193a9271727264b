// Jobs that repeat: when each comes next, pausing it, changing it.
import { type ReactNode, useState } from "react";
import { api, type Schemas, take, takeTagged } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select } from "../../design/field";
import { Panel } from "../../design/panel";
import { Empty, Loading } from "../../design/state";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { type Said, useOver } from "../../list/over";
import { Listing } from "../../list/keyset";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { configOf, RelayField, type Settings, SettingsFields, settingsOf, settingWrong, usePlugins } from "./settings";

type Schedule = Schemas["Schedule"];

function every(seconds: number): string {
  if (seconds % 86_400 === 0) return seconds === 86_400 ? "every day" : `every ${seconds / 86_400} days`;
  if (seconds % 3_600 === 0) return seconds === 3_600 ? "every hour" : `every ${seconds / 3_600} hours`;
  return `every ${Math.round(seconds / 60)} minutes`;
}

const configText = (it: Schedule) =>
  Object.entries(it.config)
    .map(([key, of]) => `${key}=${typeof of === "string" ? of : JSON.stringify(of)}`)
    .join(", ");

const INTERVALS = [300, 900, 3_600, 21_600, 86_400, 604_800];

function useUpdate() {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "schedules"]);
  const update = (schedule: string, body: Schemas["ScheduleUpdate"]) =>
    change(() => take(api.PATCH("/api/v1/tenants/{tenant}/schedules/{schedule}", { params: { path: { tenant: slug, schedule } }, body })));
  return { update, failure };
}

/** `start`: what runs a job, where none repeats. */
export function Schedules({ start }: { start: ReactNode }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const queryKey = ["tenant", slug, "schedules"];
  const { change, failure } = useChange(queryKey);
  const { update, failure: notUpdated } = useUpdate();
  const [editing, setEditing] = useState<Schedule>();
  const [deleting, setDeleting] = useState<Schedule>();
  const path = { tenant: slug };
  const lacks = tenant.lacks("jobs:manage");
  const remove = (schedule: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/schedules/{schedule}", { params: { path: { ...path, schedule } } }));
  return (
    <Panel title="Schedules" flush>
      {failure}
      {notUpdated}
      <Listing
        name="Schedules"
        pageIn="schedules"
        queryKey={queryKey}
        load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/schedules", { params: { path, query }, signal }))}
        every={15_000}
        rowKey={(it) => it.id}
        exported={(it) => ({
          id: it.id,
          plugin: it.plugin,
          settings: configText(it),
          interval_s: it.interval_s,
          paused: String(it.paused),
          next_at: it.next_at,
          created_by: it.created_by,
        })}
        columns={[
          {
            head: "Plugin",
            kind: "main",
            cell: (it) => (
              <>
                {it.plugin}
                <div className="under">{configText(it)}</div>
              </>
            ),
          },
          { head: "How often", kind: "nowrap", cell: (it) => every(it.interval_s) },
          { head: "Next", kind: "nowrap", cell: (it) => (it.paused ? <Badge word="paused" /> : <When at={it.next_at} />) },
          { head: "Made by", cell: (it) => <Who id={it.created_by} /> },
          {
            head: "",
            cell: (it) => (
              <span className="row tight">
                <Button
                  small
                  aria-label={`${it.paused ? "Resume" : "Pause"} the schedule of ${it.plugin}`}
                  reason={lacks}
                  onClick={() => void update(it.id, { paused: !it.paused })}
                >
                  {it.paused ? "Resume" : "Pause"}
                </Button>
                <Button small aria-label={`Change the schedule of ${it.plugin}`} reason={lacks} onClick={() => setEditing(it)}>
                  Change
                </Button>
                <Button small aria-label={`Delete the schedule of ${it.plugin}`} reason={lacks} onClick={() => setDeleting(it)}>
                  Delete
                </Button>
              </span>
            ),
          },
        ]}
        empty={
          <Empty title="Nothing repeats" action={start}>
            When you run a job, choose how often it is to be run again.
          </Empty>
        }
      />
      {editing && <EditDialog of={editing} onClose={() => setEditing(undefined)} />}
      {deleting && (
        <Confirm
          title={`Delete the schedule of ${deleting.plugin}?`}
          action="Delete"
          onClose={() => setDeleting(undefined)}
          onConfirm={() => void change(() => remove(deleting.id))}
        >
          It starts no more jobs. Those that it started stay. To stop it for a while, pause it.
        </Confirm>
      )}
    </Panel>
  );
}

const PATH = "/api/v1/tenants/{tenant}/schedules/{schedule}";

/** What the form holds of a schedule, in words. */
const saysSchedule = (it: Schedule): Said[] => [
  ["How often", every(it.interval_s)],
  ["Settings", configText(it), it.config],
  ["Relay", it.relay ?? ""],
];

function EditDialog({ of, onClose }: { of: Schedule; onClose: () => void }) {
  const { slug } = useTenant();
  const plugins = usePlugins();
  const { change, failed, failure } = useChange(["tenant", slug, "schedules"]);
  const path = { tenant: slug, schedule: of.id };
  const { seen, over } = useOver(of, () => takeTagged(api.GET(PATH, { params: { path } })), saysSchedule);
  // What is not typed here follows what it is by now.
  const [typed, setTyped] = useState<{ settings?: Settings; relay?: string; interval?: number }>({});
  const { settings, relay, interval } = { settings: settingsOf(seen.config), relay: seen.relay ?? "", interval: seen.interval_s, ...typed };
  const plugin = plugins.data?.items.find((it) => it.name === of.plugin);
  const save = async () => {
    const body = { config: configOf(settings), relay, interval_s: interval };
    const put = (tag: string) => take(api.PATCH(PATH, { params: { path, header: { "If-Match": tag } }, body }));
    if (await change(() => over(put))) onClose();
  };
  const intervals = INTERVALS.includes(seen.interval_s) ? INTERVALS : [seen.interval_s, ...INTERVALS];
  return (
    <Dialog title={`Change the schedule of ${of.plugin}`} onClose={onClose} onSubmit={() => save()}>
      {!settingWrong(plugin, failed) && failure}
      <Select label="How often" value={String(interval)} onChange={(event) => setTyped({ ...typed, interval: Number(event.target.value) })}>
        {intervals.map((it) => (
          <option key={it} value={it}>
            {every(it)}
          </option>
        ))}
      </Select>
      {plugins.isPending ? <Loading rows={3} /> : plugin && <SettingsFields plugin={plugin} settings={settings} onChange={(settings) => setTyped({ ...typed, settings })} failed={failed} />}
      <RelayField relay={relay} onChange={(relay) => setTyped({ ...typed, relay })} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Save
        </Button>
      </div>
    </Dialog>
  );
}
