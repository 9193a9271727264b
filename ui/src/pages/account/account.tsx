// One's own account: password, second factors, and where one is signed in.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { Listing } from "../../list/keyset";
import { lost } from "../../list/lost";
import { leave, useMe, useRefreshMe } from "../../session/me";
import { hasPasskeys, makePasskey } from "../../session/passkey";
import { useWithProof } from "../../session/proof";
import { client } from "./client";
import { useTitle } from "../../shell/title";
import { AddApp, RecoveryCodes } from "../login/factor";
import { PasswordForm } from "../login/password";

export default function AccountPage() {
  useTitle("Your account");
  const me = useMe();
  const [changed, setChanged] = useState(false);
  return (
    <>
      <Head title={me.name} about={me.email} />
      <Sessions />
      <div className="grid">
        <Factors />
        <Panel title="Password">
          {!me.has_password ? (
            <p className="muted">
              You have none here: you sign in with your identity provider, and a password is changed there. A second factor of your own, or a passkey, is
              good here too.
            </p>
          ) : changed ? (
            <Notice kind="good">Changed. Your other sessions have ended.</Notice>
          ) : (
            <PasswordForm onDone={() => setChanged(true)} />
          )}
        </Panel>
      </div>
    </>
  );
}

function Sessions() {
  const queries = useQueryClient();
  const withProof = useWithProof();
  const [failed, setFailed] = useState<unknown>();
  const attempt = async (work: () => Promise<unknown>) => {
    setFailed(undefined);
    try {
      await withProof(work);
    } catch (error) {
      setFailed(error);
    }
    await queries.invalidateQueries({ queryKey: ["sessions"] });
  };
  const end = (session: string) => take(api.DELETE("/api/v1/me/sessions/{session}", { params: { path: { session } } }));
  const everywhere = async () => {
    await take(api.POST("/api/v1/me/sessions/end", { body: { including_current: true } }));
    leave();
  };
  return (
    <Panel
      title="Where you are signed in"
      flush
      action={
        <Button small kind="danger" onClick={() => void attempt(everywhere)}>
          Sign out everywhere
        </Button>
      }
    >
      {failed !== undefined && <Failed {...told(failed)} />}
      <Listing
        name="Sessions"
        queryKey={["sessions"]}
        load={(query, signal) => take(api.GET("/api/v1/me/sessions", { params: { query }, signal }))}
        rowKey={(it) => it.id}
        exported={({ id, ip, agent, method, second_factor, created_at, last_used_at }) => ({
          id,
          ip,
          agent,
          method,
          second_factor: String(second_factor),
          created_at,
          last_used_at,
        })}
        empty={<Empty title="No session" />}
        columns={[
          {
            head: "Client",
            kind: "main",
            cell: (it) => (
              <>
                <span title={it.agent ?? undefined}>{client(it.agent)}</span> {it.current && <Badge word="this one" />}
              </>
            ),
          },
          { head: "Address", kind: "nowrap", cell: (it) => it.ip ?? "unknown" },
          { head: "By", kind: "nowrap", cell: (it) => (it.second_factor ? `${it.method}, second factor` : it.method) },
          { head: "Signed in", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
          { head: "Last used", kind: "nowrap", cell: (it) => <When at={it.last_used_at} /> },
          {
            head: "",
            cell: (it) =>
              !it.current && (
                <Button small aria-label={`End the session from ${it.ip ?? "unknown"}`} onClick={() => void attempt(() => end(it.id))}>
                  End
                </Button>
              ),
          },
        ]}
      />
    </Panel>
  );
}

function Factors() {
  const me = useMe();
  const queries = useQueryClient();
  const refresh = useRefreshMe();
  const withProof = useWithProof();
  const query = useQuery({
    queryKey: ["factors"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/me/factors", { signal })),
  });
  const [adding, setAdding] = useState(false);
  const [codes, setCodes] = useState<string[]>();
  const [failed, setFailed] = useState<unknown>();
  const changed = async () => {
    setAdding(false);
    setCodes(undefined);
    await queries.invalidateQueries({ queryKey: ["factors"] });
    await refresh();
  };
  const attempt = async (work: () => Promise<unknown>) => {
    setFailed(undefined);
    try {
      await withProof(work);
    } catch (error) {
      setFailed(error);
    }
    await queries.invalidateQueries({ queryKey: ["factors"] });
  };
  const addPasskey = async () => {
    const challenge = await take(api.POST("/api/v1/me/factors/passkey-challenge"));
    const made = await take(api.POST("/api/v1/me/factors/passkey", { body: await makePasskey(challenge, "passkey") }));
    if (made.recovery_codes.length > 0) setCodes(made.recovery_codes);
  };
  const remove = async (factor: string) => {
    await take(api.DELETE("/api/v1/me/factors/{factor}", { params: { path: { factor } } }));
    await refresh();
  };
  const renew = async () => setCodes((await take(api.POST("/api/v1/me/recovery-codes"))).recovery_codes);
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const { items, recovery_codes_left: left } = query.data;
  return (
    <Panel title="Second factors">
      <div className="stack">
        {failed !== undefined && <Failed {...told(failed)} />}
        {codes && <RecoveryCodes codes={codes} onDone={() => void changed()} />}
        {adding && <AddApp onDone={() => void changed()} />}
        {items.length === 0 && !adding && (
          <p className="muted">
            {me.has_password
              ? "None. A password alone can be guessed, seen, and given away: add a second factor."
              : "None. Your identity provider may ask for its own. One that you add here is asked for after it, and proves who you are."}
          </p>
        )}
        {items.length > 0 && (
          <Table
            name="Second factors"
            rows={items}
            rowKey={(it) => it.id}
            columns={[
              { head: "Name", cell: (it) => it.name },
              { head: "Kind", cell: (it) => <Badge word={it.kind} /> },
              { head: "Last used", kind: "nowrap", cell: (it) => <When at={it.last_used_at} /> },
              {
                head: "",
                cell: (it) => (
                  <Button small aria-label={`Remove ${it.name}`} onClick={() => void attempt(() => remove(it.id))}>
                    Remove
                  </Button>
                ),
              },
            ]}
          />
        )}
        {!adding && !codes && (
          <div className="row">
            <Button onClick={() => setAdding(true)}>Add an authenticator app</Button>
            <Button
              reason={hasPasskeys() ? undefined : "This browser knows no passkeys."}
              onClick={() => void attempt(addPasskey)}
            >
              Add a passkey
            </Button>
            {items.length > 0 && <Button onClick={() => void attempt(renew)}>New recovery codes ({left} left)</Button>}
          </div>
        )}
      </div>
    </Panel>
  );
}
