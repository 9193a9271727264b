// Fetching a bundle, saving it, and verifying it on the spot.
import { useState } from "react";
import { api, takeBytes, told } from "../../api/client";
import { Button } from "../../design/button";
import { Failed } from "../../design/state";
import { Checked } from "../../evidence/check";
import { save } from "../../list/export";
import { useTenant } from "../../session/me";

type Bytes = Uint8Array<ArrayBuffer>;

export interface About {
  finding?: string;
  framework?: string;
  control?: string;
  evidence?: string;
}

interface BundleProps {
  about: About;
  name: string;
  /** The statement from whose page it is fetched: whether it is in it is said. */
  statement?: string;
}

export function Bundle({ about, name, statement }: BundleProps) {
  const tenant = useTenant();
  const [bundle, setBundle] = useState<Bytes>();
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const fetchBundle = async () => {
    setBusy(true);
    setFailed(undefined);
    try {
      const params = { path: { tenant: tenant.slug }, query: about };
      setBundle(await takeBytes(api.GET("/api/v1/tenants/{tenant}/evidence-bundle", { params, parseAs: "arrayBuffer" })));
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  const lacks = tenant.lacks("evidence:read");
  return (
    <div className="stack">
      {!bundle && (
        <>
          <p className="muted">
            {about.evidence
              ? "A signed bundle of this statement, what it rests on, and the bytes that were collected."
              : "A signed bundle of the judgement, the collections that it rests on, and the bytes that were collected."}{" "}
            Anybody can verify it offline.
          </p>
          <div className="row">
            <Button kind="primary" busy={busy} reason={lacks} onClick={() => void fetchBundle()}>
              {busy ? "Writing the bundle…" : "Get the evidence bundle"}
            </Button>
          </div>
        </>
      )}
      {failed !== undefined && <Failed {...told(failed)} />}
      {bundle && (
        <>
          <div className="row">
            <Button onClick={() => save(name, "application/zip", bundle)}>Save the bundle</Button>
            <span className="muted small">{name}, {(bundle.length / 1024).toFixed(0)} KiB</span>
          </div>
          <Checked bundle={bundle} statement={statement} />
        </>
      )}
    </div>
  );
}
