// Data keys: what seals the secrets of the platform and of each tenant, and replacing them.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTitle } from "../../shell/title";

type Keys = Schemas["List_DataKeys"]["items"][number];

const QUERY_KEY = ["platform", "data-keys"];
const whose = (it: Keys) => it.tenant ?? "the installation";
const current = (it: Keys) => it.keys.at(-1);
const sum = (it: Keys) => it.keys.reduce((all, key) => all + key.values, 0);

export default function DataKeysPage() {
  useTitle("Data keys");
  const { change, failure } = useChange(QUERY_KEY);
  const [rotating, setRotating] = useState<{ tenant: string | null; name: string }>();
  const rotate = (tenant: string | null) => take(api.POST("/api/v1/data-keys/rotate", { body: { tenant } }));
  const columns: Column<Keys>[] = [
    { head: "Of", kind: "main", cell: whose },
    { head: "Version", kind: "number", cell: (it) => current(it)?.version },
    { head: "Seals", cell: (it) => `${sum(it).toLocaleString("en")} values` },
    { head: "State", cell: (it) => <Badge word={it.keys.length > 1 ? "rotating" : "active"} /> },
    { head: "Sealed anew", cell: (it) => (it.keys.length > 1 ? `${current(it)?.values ?? 0} of ${sum(it)}` : "all") },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={current(it)?.created_at} /> },
    {
      head: "",
      cell: (it) =>
        it.tenant ? (
          <Button
            small
            aria-label={`Rotate the key of ${whose(it)}`}
            reason={it.keys.length > 1 ? "A rotation is under way." : undefined}
            onClick={() => setRotating({ tenant: it.tenant ?? null, name: whose(it) })}
          >
            Rotate
          </Button>
        ) : null,
    },
  ];
  return (
    <>
      <Head
        title="Data keys"
        about="Each tenant’s secrets are sealed under a key of its own, and these keys under the master key. cairn-server keys rotate replaces the others."
      >
        <Button kind="primary" onClick={() => setRotating({ tenant: null, name: "everybody" })}>
          Rotate all
        </Button>
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Data keys"
          queryKey={QUERY_KEY}
          load={(_, signal) => take(api.GET("/api/v1/data-keys", { signal }))}
          every={5_000}
          columns={columns}
          rowKey={whose}
          exported={(it) => ({ of: whose(it), version: current(it)?.version, values: sum(it), keys: it.keys.length })}
          empty={<Empty title="No keys yet">The first secret that goes in makes one.</Empty>}
        />
      </section>
      {rotating && (
        <Confirm
          title={`Rotate the data key of ${rotating.name}?`}
          action="Rotate"
          onClose={() => setRotating(undefined)}
          onConfirm={() => void change(() => rotate(rotating.tenant))}
        >
          The new key seals from now on. What the old one sealed is sealed anew in the background, and nothing stops meanwhile.
        </Confirm>
      )}
    </>
  );
}
