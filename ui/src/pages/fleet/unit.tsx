// What the pages of an agent and of a relay share: who it is, whether it is let in and why not, its labels, and sending it away.
import { type ReactNode, useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Notice } from "../../design/state";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { LabelsDialog, textOf } from "./labels";

type Unit = Schemas["FleetUnit"];
export type Kind = "agent" | "relay";

export const WORDS: Record<Kind, { title: string; about: string }> = {
  agent: { title: "Agents", about: "An agent reports the host that it runs on every five minutes." },
  relay: { title: "Relays", about: "A relay runs discovery in a private network, serves agents behind it, and reaches clusters there." },
};

/** The version of its program, and whether the server’s is newer. */
export function Version({ of }: { of: Unit }) {
  return (
    <span className="row tight">
      <code>{of.version}</code>
      {of.behind && <Badge word="older version" />}
    </span>
  );
}

/** Revokes one, for good. */
export const revoke = (slug: string, kind: Kind, id: string) =>
  kind === "agent"
    ? take(api.DELETE("/api/v1/tenants/{tenant}/agents/{agent}", { params: { path: { tenant: slug, agent: id } } }))
    : take(api.DELETE("/api/v1/tenants/{tenant}/relays/{relay}", { params: { path: { tenant: slug, relay: id } } }));

/** What happens to one that is revoked. */
export const REVOKING: Record<Kind, string> = {
  agent: "It is let in no more, and its open connections end at once. To come back it has to be enrolled anew.",
  relay:
    "It is let in no more, and its open connections end at once, also those of users that go through it. To come back it has to be enrolled anew.",
};

/** The head of its page, with what is wrong with it. */
export function UnitHead({ kind, unit }: { kind: Kind; unit: Unit }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const { change, failure } = useChange(["tenant", slug, kind]);
  const [labelling, setLabelling] = useState(false);
  const [revoking, setRevoking] = useState(false);
  const lacks = tenant.lacks("fleet:manage");
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={kind === "agent" ? to.agents(slug) : to.relays(slug)}>{WORDS[kind].title}</Link> <span aria-hidden="true">/</span>{" "}
        <span>{unit.name}</span>
      </nav>
      <Head title={unit.name}>
        <Badge word={unit.state === "active" ? (unit.health ?? "active") : unit.state} />
        <Button reason={lacks} onClick={() => setLabelling(true)}>
          Labels
        </Button>
        <Button reason={lacks ?? (unit.revoked_at ? "It is revoked already." : undefined)} onClick={() => setRevoking(true)}>
          Revoke…
        </Button>
      </Head>
      {failure}
      <Wrong kind={kind} unit={unit} />
      {labelling && <LabelsDialog kind={kind} unit={unit} onClose={() => setLabelling(false)} />}
      {revoking && (
        <Confirm
          title={`Revoke ${unit.name}?`}
          action="Revoke"
          onClose={() => setRevoking(false)}
          onConfirm={() => void change(() => revoke(slug, kind, unit.id))}
        >
          {REVOKING[kind]}
        </Confirm>
      )}
    </>
  );
}

/** Why it is not let in, and what to do next. */
function Wrong({ kind, unit }: { kind: Kind; unit: Unit }) {
  if (unit.state === "cloned") {
    return (
      <Notice kind="wrong">
        <strong>
          Somebody else used its key <When at={unit.cloned_at} />: neither is let in any more.
        </strong>
        <div className="small">Look at the machine, revoke this {kind}, then enroll it anew.</div>
      </Notice>
    );
  }
  if (unit.state === "expired") {
    return (
      <Notice kind="care">
        <strong>
          Its credential ended <When at={unit.expires_at} />, since it was away for too long to renew it.
        </strong>
        <div className="small">Enroll it anew.</div>
      </Notice>
    );
  }
  return null;
}

/** What is known of it. `first`: what only its kind has. */
export function UnitFacts({ unit, first = [] }: { unit: Unit; first?: [string, ReactNode][] }) {
  const tenant = useTenant();
  const log: [string, ReactNode][] = [
    [
      "Done with it",
      <Link key="log" to={to.audit(tenant.slug, { text: unit.id })}>
        In the audit log
      </Link>,
    ],
  ];
  return (
    <Panel title="About it">
      <Facts
        of={[
          ...first,
          ["Version", <Version key="version" of={unit} />],
          ["Labels", textOf(unit.labels) || "none"],
          ["Address", unit.last_seen_ip ?? "unknown"],
          ["Last seen", <When key="seen" at={unit.last_seen_at} />],
          ["Enrolled", <When key="enrolled" at={unit.enrolled_at} />],
          ["Credential until", <When key="until" at={unit.expires_at} />],
          ["Revoked", unit.revoked_at ? <When key="revoked" at={unit.revoked_at} /> : "no"],
          ["Key", <code key="key">{unit.key}</code>],
          ["Id", <code key="id">{unit.id}</code>],
          ...(tenant.can("logs:read") ? log : []),
        ]}
      />
    </Panel>
  );
}
