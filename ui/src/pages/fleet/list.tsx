// Agents and relays: where they are, how they are, letting one in and sending one away.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing, useFilter } from "../../list/keyset";
import { EnteredField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { EnrollDialog } from "./enroll";
import { LabelsDialog, textOf } from "./labels";
import { Tokens } from "./tokens";
import { type Kind, REVOKING, revoke, Version, WORDS } from "./unit";

type Unit = Schemas["FleetUnit"];
export default function FleetPage({ kind }: { kind: Kind }) {
  const { title, about } = WORDS[kind];
  useTitle(title);
  const tenant = useTenant();
  const { slug } = tenant;
  const [label, setLabel] = useFilter("label");
  const [enrolling, setEnrolling] = useState(false);
  const [revoking, setRevoking] = useState<Unit>();
  const [labelling, setLabelling] = useState<Unit>();
  const queryKey = ["tenant", slug, kind];
  const { change, failure } = useChange(queryKey);
  const lacks = tenant.lacks("fleet:manage");
  const query = label ? { label } : {};
  const list = async (page: object, signal?: AbortSignal) => {
    const params = { path: { tenant: slug }, query: { ...query, ...page } };
    return kind === "agent"
      ? take(api.GET("/api/v1/tenants/{tenant}/agents", { params, signal }))
      : take(api.GET("/api/v1/tenants/{tenant}/relays", { params, signal }));
  };
  const columns: Column<Unit>[] = [
    {
      head: "Name",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={kind === "relay" ? to.relay(slug, it.id) : to.agent(slug, it.id)}>{it.name}</Link>
          <div className="under">
            {Object.entries(it.labels).map(([name, value]) => (
              <Link key={name} className="label" to={{ search: `?label=${encodeURIComponent(`${name}=${String(value)}`)}` }}>
                {`${name}=${String(value)}`}
              </Link>
            ))}
          </div>
        </>
      ),
    },
    { head: "State", cell: (it) => <Badge word={it.state === "active" ? (it.health ?? "active") : it.state} /> },
    { head: "Version", kind: "nowrap", cell: (it) => <Version of={it} /> },
    ...(kind === "relay" ? [{ head: "Tasks", kind: "number", cell: (it: Unit) => it.running_tasks ?? 0 } as const] : []),
    { head: "Address", kind: "nowrap", cell: (it) => it.last_seen_ip ?? "unknown" },
    { head: "Last seen", kind: "nowrap", cell: (it) => <When at={it.last_seen_at} /> },
    { head: "Credential until", kind: "nowrap", cell: (it) => <When at={it.expires_at} /> },
    ...(kind === "relay"
      ? [
          {
            head: "Certificate for hosts until",
            kind: "nowrap",
            cell: (it: Unit) => (it.ssh_certificate_ends_at ? <When at={it.ssh_certificate_ends_at} /> : "none"),
          } as const,
        ]
      : []),
    {
      head: "",
      cell: (it) => (
        <span className="row tight">
          <Button small aria-label={`Labels of ${it.name}`} reason={lacks} onClick={() => setLabelling(it)}>
            Labels
          </Button>
          <Button
            small
            aria-label={`Revoke ${it.name}`}
            reason={lacks ?? (it.revoked_at ? "It is revoked already." : undefined)}
            onClick={() => setRevoking(it)}
          >
            Revoke
          </Button>
        </span>
      ),
    },
  ];
  const enroll = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setEnrolling(true)}>
      Enroll {kind === "agent" ? "an agent" : "a relay"}
    </Button>
  );
  return (
    <>
      <Head title={title} about={about}>
        {enroll("primary")}
      </Head>
      {failure}
      <div className="filters">
        <EnteredField label="Label" placeholder="site=berlin" text={label} onEnter={setLabel} />
      </div>
      <section className="panel">
        <Listing
          name={title}
          queryKey={[...queryKey, query]}
          load={list}
          every={15_000}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, name, state, health, labels, version, behind, last_seen_at, last_seen_ip, enrolled_at, expires_at }) => ({
            id,
            name,
            state,
            health,
            labels: textOf(labels),
            version,
            behind: behind === undefined || behind === null ? "" : String(behind),
            last_seen_at,
            last_seen_ip,
            enrolled_at,
            expires_at,
          })}
          empty={
            <Empty
              title={`No ${kind}s here`}
              action={enroll()}
            >
              Make an enrollment token, and start the {kind} with it on its machine.
            </Empty>
          }
        />
      </section>
      <Tokens kind={kind} enroll={enroll()} />
      {enrolling && <EnrollDialog kind={kind} onClose={() => setEnrolling(false)} />}
      {labelling && <LabelsDialog kind={kind} unit={labelling} onClose={() => setLabelling(undefined)} />}
      {revoking && (
        <Confirm
          title={`Revoke ${revoking.name}?`}
          action="Revoke"
          onClose={() => setRevoking(undefined)}
          onConfirm={() => void change(() => revoke(slug, kind, revoking.id))}
        >
          {REVOKING[kind]}
        </Confirm>
      )}
    </>
  );
}
