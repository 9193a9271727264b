// The users of the installation, for those who manage it. It gives them no right to read any tenant.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useMe } from "../../session/me";
import { useTitle } from "../../shell/title";

type User = Schemas["User"];

const QUERY_KEY = ["platform", "users"];

export default function UsersPage() {
  useTitle("Users");
  const me = useMe();
  const { change, failure } = useChange(QUERY_KEY);
  const [making, setMaking] = useState(false);
  const [disabling, setDisabling] = useState<User>();
  const [resetting, setResetting] = useState<User>();
  const reset = (user: string) => take(api.DELETE("/api/v1/users/{user}/factors", { params: { path: { user } } }));
  const update = (user: string, body: Schemas["UserUpdate"]) => take(api.PATCH("/api/v1/users/{user}", { params: { path: { user } }, body }));
  const columns: Column<User>[] = [
    {
      head: "User",
      kind: "main",
      cell: (it) => (
        <>
          {it.email}
          <div className="under">{it.name}</div>
        </>
      ),
    },
    { head: "State", cell: (it) => <Badge word={it.disabled_at ? "disabled" : "active"} /> },
    { head: "Manages the installation", cell: (it) => (it.platform_admin ? "yes" : "no") },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => {
        const reason = it.id === me.id ? "Somebody else has to do that." : undefined;
        const state = it.disabled_at ? (
          <Button small aria-label={`Enable ${it.email}`} onClick={() => void change(() => update(it.id, { disabled: false }))}>
            Enable
          </Button>
        ) : (
          <Button small aria-label={`Disable ${it.email}`} reason={reason} onClick={() => setDisabling(it)}>
            Disable
          </Button>
        );
        return (
          <span className="row">
            <Button small aria-label={`Reset factors of ${it.email}`} reason={reason} onClick={() => setResetting(it)}>
              Reset factors
            </Button>
            {state}
          </span>
        );
      },
    },
  ];
  const make = (look?: "primary") => (
    <Button kind={look} onClick={() => setMaking(true)}>
      Make a user
    </Button>
  );
  return (
    <>
      <Head title="Users" about="Of the whole installation. Who belongs to a tenant, its administrators decide.">
        {make("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Users"
          queryKey={QUERY_KEY}
          load={(query, signal) => take(api.GET("/api/v1/users", { params: { query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, email, name, platform_admin, created_at, disabled_at }) => ({
            id,
            email,
            name,
            platform_admin: String(platform_admin),
            created_at,
            disabled_at,
          })}
          empty={<Empty title="Nobody" action={make()} />}
        />
      </section>
      {making && <MakeDialog onClose={() => setMaking(false)} />}
      {resetting && (
        <Confirm
          title={`Take all second factors from ${resetting.email}?`}
          action="Reset"
          onClose={() => setResetting(undefined)}
          onConfirm={() => void change(() => reset(resetting.id))}
        >
          For somebody who lost theirs, and whom you know by another way. Their sessions end; at the next sign-in they add a new one where one is required.
        </Confirm>
      )}
      {disabling && (
        <Confirm
          title={`Disable ${disabling.email}?`}
          action="Disable"
          onClose={() => setDisabling(undefined)}
          onConfirm={() => void change(() => update(disabling.id, { disabled: true }))}
        >
          All their sessions and their access to destinations end at once. Nothing of theirs is deleted.
        </Confirm>
      )}
    </>
  );
}

function MakeDialog({ onClose }: { onClose: () => void }) {
  const { change, failure } = useChange(QUERY_KEY);
  const [email, setEmail] = useState("");
  const [name, setName] = useState("");
  const [made, setMade] = useState<Schemas["UserCreated"]>();
  const make = () => change(async () => setMade(await take(api.POST("/api/v1/users", { body: { email, name } }))));
  if (made) {
    return (
      <Dialog title="One-time password" onClose={onClose}>
        <p>
          <strong>It is shown this once.</strong> {made.email} signs in with it, and chooses another one.
        </p>
        <Copyable name="The password" text={made.one_time_password} />
        <div className="actions">
          <Button kind="primary" onClick={onClose}>
            Done
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Make a user" onClose={onClose} onSubmit={() => make()}>
      {failure}
      <TextField label="Login name" type="email" required value={email} onChange={(event) => setEmail(event.target.value)} />
      <TextField label="Name" required value={name} onChange={(event) => setName(event.target.value)} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Make
        </Button>
      </div>
    </Dialog>
  );
}
