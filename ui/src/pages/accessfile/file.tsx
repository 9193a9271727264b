// Access as code: what is there as a file, and a file whose difference is shown before it is made.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Json } from "../../design/facts";
import { TextArea, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { Confirm, useChange } from "../../list/change";
import { save } from "../../list/export";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Plan = Schemas["AccessFilePlan"];
type File = Schemas["AccessFile"];

/** A plan, and exactly what was asked for to get it. */
interface Shown {
  plan: Plan;
  file: File;
  prune: boolean;
  missing_waits: boolean;
}

const said = (value: unknown) => (value === undefined || value === null ? <span className="muted">nothing</span> : <code>{JSON.stringify(value)}</code>);

export default function AccessFilePage() {
  useTitle("Access as code");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const { change, failure } = useChange(["tenant", tenant.slug]);
  const [name, setName] = useState("access");
  const [text, setText] = useState("");
  const [prune, setPrune] = useState(false);
  const [waits, setWaits] = useState(false);
  const [wrong, setWrong] = useState<string>();
  const [shown, setShown] = useState<Shown>();
  const [applied, setApplied] = useState<Plan>();
  const [applying, setApplying] = useState(false);
  const lacks = tenant.lacks("access:manage");
  const exported = () => take(api.GET("/api/v1/tenants/{tenant}/access-file", { params: { path, query: { name } } as never }));
  const keep = () => change(async () => save(`${name}.json`, "application/json", `${JSON.stringify(await exported(), null, 2)}\n`));
  const edit = () => change(async () => begin(JSON.stringify(await exported(), null, 2)));
  // Whatever is changed in the form, the difference that was shown is not the one that would be made.
  const begin = (next: string) => {
    setText(next);
    setShown(undefined);
    setApplied(undefined);
    setWrong(undefined);
  };
  const plan = async () => {
    begin(text);
    let file: File;
    try {
      file = JSON.parse(text) as File;
    } catch (error) {
      setWrong(`This is no JSON: ${error instanceof Error ? error.message : "it cannot be read"}. The command line reads YAML too.`);
      return;
    }
    await change(async () => {
      const body = { file, prune, missing_waits: waits };
      setShown({ plan: await take(api.POST("/api/v1/tenants/{tenant}/access-file/plan", { params: { path }, body })), ...body });
    });
  };
  const apply = async () => {
    if (!shown) return;
    const { plan: of, ...asked } = shown;
    await change(async () => {
      const body = { ...asked, digest: of.digest };
      setApplied(await take(api.POST("/api/v1/tenants/{tenant}/access-file/apply", { params: { path }, body })));
      setShown(undefined);
    });
  };
  const taken = shown?.plan.changes.filter((it) => it.action === "delete").length ?? 0;
  return (
    <>
      <Head
        title="Access as code"
        about="Groups, grants and invitations as a file that is reviewed like code. cairn apply -f FILE does the same in a pipeline."
      />
      {failure}
      <Panel title="What is there">
        <form
          className="filters"
          onSubmit={(event) => {
            event.preventDefault();
            void keep();
          }}
        >
          <TextField
            label="Name of the file"
            help="What a file makes is its own; another file leaves it alone"
            required
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          <Button type="submit" reason={lacks}>
            Save the file
          </Button>
          <Button reason={lacks} onClick={() => void edit()}>
            Edit it below
          </Button>
        </form>
      </Panel>
      <Panel title="A file to apply">
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            void plan();
          }}
        >
          <TextArea
            label="File (JSON)"
            rows={14}
            spellCheck={false}
            required
            wrong={wrong}
            value={text}
            onChange={(event) => begin(event.target.value)}
          />
          <label className="row">
            <input
              type="checkbox"
              checked={prune}
              onChange={(event) => {
                setPrune(event.target.checked);
                begin(text);
              }}
            />
            Take away what this file made earlier and does not name any more
          </label>
          <label className="row">
            <input
              type="checkbox"
              checked={waits}
              onChange={(event) => {
                setWaits(event.target.checked);
                begin(text);
              }}
            />
            Let what names a missing user or destination wait
          </label>
          <div className="row">
            <Button type="submit" kind={shown ? "plain" : "primary"} reason={lacks}>
              Show what would change
            </Button>
          </div>
        </form>
      </Panel>
      {shown && (
        <Panel
          title="What would change"
          flush
          action={
            <Button kind="primary" reason={lacks ?? (shown.plan.changes.length === 0 ? "Nothing differs." : undefined)} onClick={() => setApplying(true)}>
              Apply exactly this
            </Button>
          }
        >
          {shown.plan.changes.length === 0 ? <Empty title="Nothing">What is there is as the file says.</Empty> : <Changes of={shown.plan} />}
          {shown.plan.waiting.length > 0 && <Json name="What waits" value={shown.plan.waiting} />}
        </Panel>
      )}
      {applied && <Notice kind="good">{`Applied: ${applied.changes.length} changes, all in the audit log.`}</Notice>}
      {applying && shown && (
        <Confirm title="Apply this difference?" action="Apply" onClose={() => setApplying(false)} onConfirm={() => void apply()}>
          {`${shown.plan.changes.length} changes, of which ${taken} take something away, in one transaction. If anything was changed meanwhile, nothing is done.`}
        </Confirm>
      )}
    </>
  );
}

function Changes({ of }: { of: Plan }) {
  return (
    <Table
      name="Changes"
      rows={of.changes.map((it, at) => ({ ...it, at }))}
      rowKey={(it) => String(it.at)}
      columns={[
        { head: "Does", cell: (it) => <Badge word={it.action} /> },
        {
          head: "What",
          kind: "main",
          cell: (it) => (
            <>
              {it.name}
              <div className="under">{it.kind}</div>
            </>
          ),
        },
        { head: "Before", cell: (it) => said(it.before) },
        { head: "After", cell: (it) => said(it.after) },
      ]}
    />
  );
}
