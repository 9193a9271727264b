// What a tenant asks of sign-ins, access, recordings, relays and targets.
import { api, take, takeTagged } from "../../api/client";
import { Select, TextArea, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Check, PolicyPanel } from "./policy";

/** The permissions of which each shows one policy at least. */
const SEES = ["users:manage", "access:manage", "recordings:read", "fleet:manage", "jobs:manage"];

const LENGTHS: [number, string][] = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** Seconds as one says them: `1 h 30 min`. */
function span(seconds: number): string {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = LENGTHS.flatMap(([length, unit]) => {
    const count = Math.floor(rest / length);
    rest %= length;
    return count ? [`${count} ${unit}`] : [];
  });
  return parts.join(" ") || "0 s";
}

export default function SecurityPage() {
  useTitle("Security");
  const { can } = useTenant();
  if (!SEES.some(can)) {
    return <Empty page title="Not with your role">It shows you none of the tenant’s policies. A tenant administrator can change that.</Empty>;
  }
  return (
    <>
      <Head title="Security" about="The tenant’s policies. Each change is in the audit log, and may ask for a fresh proof of who you are." />
      <SignIn />
      <Access />
      <Recordings />
      <Relays />
      <Targets />
    </>
  );
}

function SignIn() {
  const params = { path: { tenant: useTenant().slug } };
  return (
    <PolicyPanel
      title="Sign-in"
      about="The tenant can be closed to sessions without a second factor. Whoever closes it has to have shown one."
      name="sign-in-policy"
      sees="users:manage"
      sets="users:manage"
      load={(signal) => takeTagged(api.GET("/api/v1/tenants/{tenant}/sign-in-policy", { params, ...(signal ? { signal } : {}) }))}
      save={(body, over) => take(api.PUT("/api/v1/tenants/{tenant}/sign-in-policy", { params: { ...params, header: { "If-Match": over } }, body }))}
      says={(it) => [["Second factor", it.second_factor_required ? "required of every session" : "not required by this tenant"]]}
      draft={(it) => it}
      policy={(it) => it}
      fields={(it, set) => (
        <Check
          label="Require a second factor"
          on={it.second_factor_required}
          onChange={(on) => set({ second_factor_required: on })}
        />
      )}
    />
  );
}

function Access() {
  const params = { path: { tenant: useTenant().slug } };
  return (
    <PolicyPanel
      title="Access"
      about="What access may be asked for and for how long, and who may take it at once, without approval and with an alarm: that is breaking glass."
      name="access-policy"
      sees="access:manage"
      sets="access:manage"
      load={(signal) => takeTagged(api.GET("/api/v1/tenants/{tenant}/access-policy", { params, ...(signal ? { signal } : {}) }))}
      save={(body, over) => take(api.PUT("/api/v1/tenants/{tenant}/access-policy", { params: { ...params, header: { "If-Match": over } }, body }))}
      says={(it) => [
        ["Longest request", span(it.request_s_max)],
        ["What may be asked for", it.requests === "eligible" ? "only what an eligible grant covers" : "anything"],
        ["Breaking glass", it.break_glass ? `the group ${it.break_glass.group}, for ${span(it.break_glass.s_max)} at most` : "nobody"],
      ]}
      draft={(it) => ({
        longest: String(it.request_s_max),
        requests: it.requests ?? "any",
        breaks: Boolean(it.break_glass),
        group: it.break_glass?.group ?? "",
        glass: String(it.break_glass?.s_max ?? 3600),
      })}
      policy={(it) => ({
        request_s_max: Number(it.longest),
        requests: it.requests,
        break_glass: it.breaks ? { group: it.group.trim(), s_max: Number(it.glass) } : null,
      })}
      fields={(it, set) => (
        <>
          <TextField
            label="Longest request, in seconds"
            help={`60 to 2,592,000 (30 days). Now in the form: ${span(Number(it.longest))}.`}
            type="number"
            min={60}
            max={2_592_000}
            required
            value={it.longest}
            onChange={(event) => set({ longest: event.target.value })}
          />
          <Select
            label="What may be asked for"
            value={it.requests}
            onChange={(event) => set({ requests: event.target.value === "eligible" ? "eligible" : "any" })}
          >
            <option value="any">anything</option>
            <option value="eligible">only what an eligible grant covers</option>
          </Select>
          <Check label="A group may break glass" on={it.breaks} onChange={(breaks) => set({ breaks })} />
          {it.breaks && (
            <>
              <TextField
                label="Group that may break glass"
                help="Its name, as in the tenant’s groups"
                required
                value={it.group}
                onChange={(event) => set({ group: event.target.value })}
              />
              <TextField
                label="For how long at most, in seconds"
                help={`60 to 43,200 (12 h). Now in the form: ${span(Number(it.glass))}.`}
                type="number"
                min={60}
                max={43_200}
                required
                value={it.glass}
                onChange={(event) => set({ glass: event.target.value })}
              />
            </>
          )}
        </>
      )}
    />
  );
}

const MODES: [string, string][] = [
  ["off", "off: nothing is recorded"],
  ["best-effort", "best-effort: a session that cannot be recorded goes on"],
  ["required", "required: a session that cannot be recorded ends"],
];
const mode = (name: string) => MODES.find(([it]) => it === name)?.[1] ?? name;
const days = (count: number) => (count === 1 ? "1 day" : `${count.toLocaleString("en")} days`);

function Recordings() {
  const params = { path: { tenant: useTenant().slug } };
  return (
    <PolicyPanel
      title="Recordings"
      about="What is recorded, from the next session on, and how long recordings are kept, also those that there are."
      name="recording-policy"
      sees="recordings:read"
      sets="access:manage"
      load={(signal) => takeTagged(api.GET("/api/v1/tenants/{tenant}/recording-policy", { params, ...(signal ? { signal } : {}) }))}
      save={(body, over) => take(api.PUT("/api/v1/tenants/{tenant}/recording-policy", { params: { ...params, header: { "If-Match": over } }, body }))}
      says={(it) => [
        ["Clusters", mode(it.kubernetes)],
        ["Hosts", mode(it.ssh)],
        ["What is typed on a terminal", it.input ? "recorded too" : "not recorded"],
        ["Kept for", days(it.retention_days)],
      ]}
      draft={(it) => ({ ...it, retention_days: String(it.retention_days) })}
      policy={(it) => ({ ...it, retention_days: Number(it.retention_days) })}
      loses={(before, after) =>
        after.retention_days < before.retention_days
          ? `Recordings older than ${days(after.retention_days)} are deleted within minutes, and cannot be brought back. Their signed statements stay.`
          : undefined
      }
      fields={(it, set) => (
        <>
          <Select
            label="Sessions in clusters"
            help="What goes through kubectl exec and attach"
            value={it.kubernetes}
            onChange={(event) => set({ kubernetes: event.target.value })}
          >
            <Modes />
          </Select>
          <Select
            label="Sessions on hosts"
            help="Those that go through a relay"
            value={it.ssh}
            onChange={(event) => set({ ssh: event.target.value })}
          >
            <Modes />
          </Select>
          <Check label="Record what is typed on a terminal too: it holds passwords" on={it.input} onChange={(input) => set({ input })} />
          <TextField
            label="Kept for, in days"
            help="1 to 36,500. A shorter time deletes older recordings within minutes."
            type="number"
            min={1}
            max={36_500}
            required
            value={it.retention_days}
            onChange={(event) => set({ retention_days: event.target.value })}
          />
        </>
      )}
    />
  );
}

function Modes() {
  return MODES.map(([name, words]) => (
    <option key={name} value={name}>
      {words}
    </option>
  ));
}

function authorities(pem: string): string {
  const count = pem.split("-----BEGIN CERTIFICATE-----").length - 1;
  if (count === 0) return "none: no relay is asked for a certificate";
  return count === 1 ? "1 certificate" : `${count} certificates`;
}

function Relays() {
  const params = { path: { tenant: useTenant().slug } };
  return (
    <PolicyPanel
      title="Relay certificates"
      about="What relays have to show besides their keys. Saving cuts every relay of the tenant off within a second; it comes back under the new terms."
      name="relay-policy"
      sees="fleet:manage"
      sets="fleet:manage"
      load={(signal) => takeTagged(api.GET("/api/v1/tenants/{tenant}/relay-policy", { params, ...(signal ? { signal } : {}) }))}
      save={(body, over) => take(api.PUT("/api/v1/tenants/{tenant}/relay-policy", { params: { ...params, header: { "If-Match": over } }, body }))}
      says={(it) => [
        ["Authorities", authorities(it.authorities), it.authorities],
        ["A relay without a certificate of theirs", it.certificate_required ? "is refused" : "is let in"],
      ]}
      draft={(it) => it}
      policy={(it) => it}
      fields={(it, set) => (
        <>
          <TextArea
            label="Authorities"
            help="Who vouches for the relays’ client certificates: certificates in PEM, 16 and 64 KiB at most. Empty: no relay is asked for one."
            spellCheck={false}
            rows={6}
            value={it.authorities}
            onChange={(event) => set({ authorities: event.target.value })}
          />
          <Check
            label="Refuse a relay that shows no certificate of theirs"
            on={it.certificate_required}
            onChange={(on) => set({ certificate_required: on })}
          />
        </>
      )}
    />
  );
}

function Targets() {
  const params = { path: { tenant: useTenant().slug } };
  return (
    <PolicyPanel
      title="Targets of jobs"
      about={
        <>
          A machine’s own addresses, link-local ones and metadata services are no targets unless they are named here; all others need no naming.
          Where a server makes the calls, <code>discovery.special_targets</code> of its configuration has to name them too. It counts from the next
          task on.
        </>
      }
      name="target-policy"
      sees="jobs:manage"
      sets="users:manage"
      load={(signal) => takeTagged(api.GET("/api/v1/tenants/{tenant}/target-policy", { params, ...(signal ? { signal } : {}) }))}
      save={(body, over) => take(api.PUT("/api/v1/tenants/{tenant}/target-policy", { params: { ...params, header: { "If-Match": over } }, body }))}
      says={(it) => [["Special networks", it.special_networks.join(", ") || "none"]]}
      draft={(it) => ({ networks: it.special_networks.join("\n") })}
      policy={(it) => ({ special_networks: it.networks.split(/[\s,]+/).filter(Boolean) })}
      fields={(it, set) => (
        <TextArea
          label="Special networks"
          help="One a line, 64 at most, such as 169.254.10.0/24 or 127.0.0.1; a metadata service only by its one address"
          spellCheck={false}
          rows={4}
          value={it.networks}
          onChange={(event) => set({ networks: event.target.value })}
        />
      )}
    />
  );
}
