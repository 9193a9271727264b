// Witnesses: others who saw the heads of the logs and signed them too, so that no server can show two histories.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTitle } from "../../shell/title";

type Witness = Schemas["Witness"];

const QUERY_KEY = ["platform", "witnesses"];

export default function WitnessesPage() {
  useTitle("Witnesses");
  const { change, failure } = useChange(QUERY_KEY);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<Witness>();
  const remove = (witness: string) => take(api.DELETE("/api/v1/witnesses/{witness}", { params: { path: { witness } } }));
  const columns: Column<Witness>[] = [
    {
      head: "Witness",
      kind: "main",
      cell: (it) => (
        <>
          {it.name}
          <div className="under mono">{it.vkey}</div>
        </>
      ),
    },
    { head: "Added by", cell: (it) => it.added_by },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.added_at} /> },
    {
      head: "",
      cell: (it) => (
        <Button small aria-label={`Remove ${it.name}`} onClick={() => setRemoving(it)}>
          Remove
        </Button>
      ),
    },
  ];
  const add = (look?: "primary") => (
    <Button kind={look} onClick={() => setAdding(true)}>
      Add a witness
    </Button>
  );
  return (
    <>
      <Head title="Witnesses" about="Who signs the heads of the audit logs beside this installation. Their lines stand in every checkpoint and proof.">
        {add("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Witnesses"
          queryKey={QUERY_KEY}
          load={(_, signal) => take(api.GET("/api/v1/witnesses", { signal }))}
          columns={columns}
          rowKey={(it) => it.vkey}
          exported={({ name, vkey, added_by, added_at }) => ({ name, vkey, added_by, added_at })}
          empty={
            <Empty title="No witnesses" action={add()}>
              Add one that another party runs: it notices a log that was rewritten.
            </Empty>
          }
        />
      </section>
      {adding && <AddDialog onClose={() => setAdding(false)} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.name}?`}
          action="Remove"
          onClose={() => setRemoving(undefined)}
          onConfirm={() => void change(() => remove(removing.name))}
        >
          Its cosignatures are accepted no more. Those that are there stay.
        </Confirm>
      )}
    </>
  );
}

function AddDialog({ onClose }: { onClose: () => void }) {
  const { change, failure } = useChange(QUERY_KEY);
  const [vkey, setVkey] = useState("");
  const add = async () => {
    if (await change(() => take(api.POST("/api/v1/witnesses", { body: { vkey: vkey.trim() } })))) onClose();
  };
  return (
    <Dialog title="Add a witness" onClose={onClose} onSubmit={() => add()}>
      {failure}
      <TextField label="Its key" help="NAME+ID+KEY, as C2SP signed-note writes it" required value={vkey} onChange={(event) => setVkey(event.target.value)} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Add
        </Button>
      </div>
    </Dialog>
  );
}
