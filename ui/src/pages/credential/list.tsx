// Credentials: their values go in once, and are never shown again.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { SecretArea, Select, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty, Failed } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";
import { ValidateDialog } from "../job/validate";

type Credential = Schemas["Credential"];

export default function CredentialsPage() {
  useTitle("Credentials");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "credentials"];
  const { change, failure } = useChange(queryKey);
  const [adding, setAdding] = useState(false);
  const [deleting, setDeleting] = useState<Credential>();
  const [validating, setValidating] = useState<Credential>();
  const lacks = tenant.lacks("credentials:manage");
  const remove = (credential: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/credentials/{credential}", { params: { path: { ...path, credential } } }));
  const columns: Column<Credential>[] = [
    { head: "Name", kind: "main", cell: (it) => it.name },
    { head: "Plugin", cell: (it) => it.plugin },
    { head: "Type", cell: (it) => <code>{it.type}</code> },
    { head: "Added by", cell: (it) => <Who id={it.created_by} /> },
    { head: "Added", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "Validated",
      kind: "nowrap",
      cell: (it) => {
        if (!it.validation_status) return <span className="muted">never</span>;
        return (
          <span className="row tight">
            <Badge word={it.validation_status} />
            <When at={it.validated_at} />
          </span>
        );
      },
    },
    { head: "Last used", kind: "nowrap", cell: (it) => <When at={it.last_used_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row tight">
          <Button small aria-label={`Validate ${it.name}`} reason={tenant.lacks("jobs:manage")} onClick={() => setValidating(it)}>
            Validate
          </Button>
          <Button small aria-label={`Delete ${it.name}`} reason={lacks} onClick={() => setDeleting(it)}>
            Delete
          </Button>
        </span>
      ),
    },
  ];
  const add = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setAdding(true)}>
      Add a credential
    </Button>
  );
  return (
    <>
      <Head title="Credentials" about="What discovery signs in with. A value is sealed when it comes in, and nobody is shown it again.">
        {add("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Credentials"
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/credentials", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          // While one is tried it ends within minutes.
          every={(page) => (page.some((it) => ["queued", "running"].includes(it.validation_status ?? "")) ? 2_000 : false)}
          exported={({ id, name, plugin, type, created_by, created_at, validation_status, validated_at, last_used_at }) => ({
            id,
            name,
            plugin,
            type,
            created_by,
            created_at,
            validation_status,
            validated_at,
            last_used_at,
          })}
          empty={
            <Empty
              title="No credentials"
              action={add()}
            >
              Discovery of an AWS account, of hosts over SSH or of network devices needs one.
            </Empty>
          }
        />
      </section>
      {adding && (
        <AddDialog
          onClose={(then) => {
            setAdding(false);
            setValidating(then);
          }}
        />
      )}
      {validating && <ValidateDialog credential={validating} onClose={() => setValidating(undefined)} />}
      {deleting && (
        <Confirm
          title={`Delete ${deleting.name}?`}
          action="Delete"
          onClose={() => setDeleting(undefined)}
          onConfirm={() => void change(() => remove(deleting.id))}
        >
          Jobs and schedules that use it fail from now on. It cannot be brought back.
        </Confirm>
      )}
    </>
  );
}

/** `onClose` with a credential: it was stored, and is to be validated. */
function AddDialog({ onClose }: { onClose: (validate?: Credential) => void }) {
  const { slug } = useTenant();
  const plugins = useQuery({
    queryKey: ["plugins"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/plugins", { signal })),
  });
  const { change, failure } = useChange(["tenant", slug, "credentials"]);
  const takers = plugins.data?.items.filter((it) => it.credential_types.length > 0) ?? [];
  const [plugin, setPlugin] = useState("");
  const [type, setType] = useState("");
  const [name, setName] = useState("");
  const [fields, setFields] = useState<Record<string, string>>({});
  const taker = takers.find((it) => it.name === plugin) ?? takers[0];
  const kind = taker?.credential_types.find((it) => it.name === type) ?? taker?.credential_types[0];
  const add = async (validate: boolean) => {
    if (!taker || !kind) return;
    let made: Credential | undefined;
    const secret = Object.fromEntries(Object.entries(fields).filter(([, value]) => value)) as never;
    const body = { plugin: taker.name, type: kind.name, name, secret };
    const done = await change(async () => {
      made = await take(api.POST("/api/v1/tenants/{tenant}/credentials", { params: { path: { tenant: slug } }, body }));
    });
    if (done) onClose(validate ? made : undefined);
  };
  const field = (key: string, required: boolean) => {
    const common = {
      label: required ? key : `${key} (optional)`,
      required,
      value: fields[key] ?? "",
      autoComplete: "off",
      onChange: (event: { target: { value: string } }) => setFields({ ...fields, [key]: event.target.value }),
    };
    if (kind?.several_lines?.includes(key)) return <SecretArea key={key} help="With its line breaks, as its file has it" {...common} />;
    return <TextField key={key} type="password" {...common} autoComplete="new-password" />;
  };
  return (
    <Dialog title="Add a credential" onClose={() => onClose()} onSubmit={() => add(false)}>
      {failure}
      {lost(plugins) && <Failed {...told(plugins.error)} onRetry={() => void plugins.refetch()} />}
      <Select
        label="Plugin"
        value={taker?.name ?? ""}
        onChange={(event) => {
          setPlugin(event.target.value);
          setType("");
          setFields({});
        }}
      >
        {takers.map((it) => (
          <option key={it.name}>{it.name}</option>
        ))}
      </Select>
      <Select
        label="Type"
        value={kind?.name ?? ""}
        onChange={(event) => {
          setType(event.target.value);
          setFields({});
        }}
      >
        {taker?.credential_types.map((it) => (
          <option key={it.name}>{it.name}</option>
        ))}
      </Select>
      <TextField label="Name" required autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />
      {kind?.required.map((key) => field(key, true))}
      {kind?.optional.map((key) => field(key, false))}
      <div className="actions">
        <Button onClick={() => onClose()}>Cancel</Button>
        <Button
          onClick={(event) => {
            if (event.currentTarget.form?.reportValidity()) void add(true);
          }}
        >
          Add and validate
        </Button>
        <Button kind="primary" type="submit">
          Add
        </Button>
      </div>
    </Dialog>
  );
}
