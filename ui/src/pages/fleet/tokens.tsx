// Enrollment tokens that were made: what became of each, and withdrawing one.
import { api, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Panel } from "../../design/panel";
import { Empty } from "../../design/state";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import type { Kind } from "./unit";
import type { ReactNode } from "react";

export function Tokens({ kind, enroll }: { kind: Kind; enroll: ReactNode }) {
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "enrollment-tokens", kind];
  const { change, failure } = useChange(queryKey);
  const revoke = (token: string) =>
    take(
      api.DELETE("/api/v1/tenants/{tenant}/enrollment-tokens/{enrollment_token}", {
        params: { path: { ...path, enrollment_token: token } },
      }),
    );
  return (
    <Panel title="Enrollment tokens" flush>
      {failure}
      <Listing
        name="Enrollment tokens"
        pageIn="tokens"
        queryKey={queryKey}
        load={(page, signal) =>
          take(api.GET("/api/v1/tenants/{tenant}/enrollment-tokens", { params: { path, query: { kind, ...page } }, signal }))
        }
        rowKey={(it) => it.id}
        exported={({ id, kind, state, created_by, created_at, expires_at }) => ({ id, kind, state, created_by, created_at, expires_at })}
        columns={[
          { head: "Token", kind: "main", cell: (it) => <code>{it.id}</code> },
          { head: "State", cell: (it) => <Badge word={it.state} /> },
          { head: "Made by", cell: (it) => <Who id={it.created_by} /> },
          { head: "Made", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
          { head: "Good until", kind: "nowrap", cell: (it) => <When at={it.expires_at} /> },
          {
            head: "",
            cell: (it) => (
              <Button
                small
                aria-label={`Withdraw ${it.id}`}
                reason={tenant.lacks("fleet:manage") ?? (it.state === "waiting" ? undefined : `It is ${it.state}.`)}
                onClick={() => void change(() => revoke(it.id))}
              >
                Withdraw
              </Button>
            ),
          },
        ]}
        empty={
          <Empty title="No tokens" action={enroll}>
            Each enrolls one {kind}, and is shown once.
          </Empty>
        }
      />
    </Panel>
  );
}
