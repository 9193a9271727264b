// Jobs that repeat.
import { api, take } from "../../api/client";
import { Button } from "../../design/button";
import { Panel } from "../../design/panel";
import { Empty } from "../../design/state";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTenant } from "../../session/me";

function every(seconds: number): string {
  if (seconds % 86_400 === 0) return seconds === 86_400 ? "every day" : `every ${seconds / 86_400} days`;
  if (seconds % 3_600 === 0) return seconds === 3_600 ? "every hour" : `every ${seconds / 3_600} hours`;
  return `every ${Math.round(seconds / 60)} minutes`;
}

export function Schedules() {
  const tenant = useTenant();
  const { slug } = tenant;
  const queryKey = ["tenant", slug, "schedules"];
  const { change, failure } = useChange(queryKey);
  const path = { tenant: slug };
  const remove = (schedule: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/schedules/{schedule}", { params: { path: { ...path, schedule } } }));
  return (
    <Panel title="Schedules" flush>
      {failure}
      <Listing
        name="Schedules"
        queryKey={queryKey}
        load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/schedules", { params: { path, query }, signal }))}
        rowKey={(it) => it.id}
        columns={[
          { head: "Plugin", kind: "main", cell: (it) => it.plugin },
          { head: "How often", kind: "nowrap", cell: (it) => every(it.interval_s) },
          { head: "Next", kind: "nowrap", cell: (it) => <When at={it.next_at} /> },
          {
            head: "",
            cell: (it) => (
              <Button
                small
                aria-label={`Delete the schedule of ${it.plugin}`}
                reason={tenant.lacks("jobs:manage")}
                onClick={() => void change(() => remove(it.id))}
              >
                Delete
              </Button>
            ),
          },
        ]}
        empty={<Empty title="Nothing repeats">When you run a job, choose how often it is to be run again.</Empty>}
      />
    </Panel>
  );
}
