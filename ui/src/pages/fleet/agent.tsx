// One agent: who it is, whether it is let in, and what it runs.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Failed, Loading, Notice } from "../../design/state";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { LabelsDialog, textOf } from "./labels";
import { Version } from "./list";

export default function AgentPage() {
  const { agent = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const params = { path: { tenant: slug, agent } };
  const { change, failure } = useChange(["tenant", slug, "agent"]);
  const [labelling, setLabelling] = useState(false);
  const [revoking, setRevoking] = useState(false);
  const query = useQuery({
    queryKey: ["tenant", slug, "agent", agent],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/agents/{agent}", { params, signal })),
    refetchInterval: 15_000,
  });
  useTitle(query.data?.name ?? "Agent");
  if (query.isPending) return <Loading />;
  if (query.isError) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const lacks = tenant.lacks("fleet:manage");
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.agents(slug)}>Agents</Link> <span aria-hidden="true">/</span> <span>{it.name}</span>
      </nav>
      <Head title={it.name}>
        <Badge word={it.state === "active" ? (it.health ?? "active") : it.state} />
        <Button reason={lacks} onClick={() => setLabelling(true)}>
          Labels
        </Button>
        <Button reason={lacks ?? (it.revoked_at ? "It is revoked already." : undefined)} onClick={() => setRevoking(true)}>
          Revoke…
        </Button>
      </Head>
      {failure}
      {it.cloned_at && (
        <Notice kind="wrong">
          <strong>
            Somebody else used its key <When at={it.cloned_at} />: neither is let in any more.
          </strong>
          <div className="small">Look at the machine, then enroll it anew.</div>
        </Notice>
      )}
      <Panel title="About it">
        <Facts
          of={[
            ["Version", <Version key="version" of={it} />],
            ["Labels", textOf(it.labels) || "none"],
            ["Address", it.last_seen_ip ?? "unknown"],
            ["Last seen", <When key="seen" at={it.last_seen_at} />],
            ["Enrolled", <When key="enrolled" at={it.enrolled_at} />],
            ["Credential until", <When key="until" at={it.expires_at} />],
            ["Revoked", it.revoked_at ? <When key="revoked" at={it.revoked_at} /> : "no"],
            ["Key", <code key="key">{it.key}</code>],
            ["Id", <code key="id">{it.id}</code>],
            ...(tenant.can("logs:read")
              ? ([
                  [
                    "Done with it",
                    <Link key="log" to={to.audit(slug, { text: it.id })}>
                      In the audit log
                    </Link>,
                  ],
                ] as [string, React.ReactNode][])
              : []),
          ]}
        />
      </Panel>
      {labelling && <LabelsDialog kind="agent" unit={it} onClose={() => setLabelling(false)} />}
      {revoking && (
        <Confirm
          title={`Revoke ${it.name}?`}
          action="Revoke"
          onClose={() => setRevoking(false)}
          onConfirm={() => void change(() => take(api.DELETE("/api/v1/tenants/{tenant}/agents/{agent}", { params })))}
        >
          It is let in no more, and its open connections end at once. To come back it has to be enrolled anew.
        </Confirm>
      )}
    </>
  );
}
