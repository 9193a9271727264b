// What came out when a bundle was verified in this browser.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, take, told } from "../api/client";
import { Button } from "../design/button";
import { Facts } from "../design/facts";
import { TextField } from "../design/field";
import { Notice } from "../design/state";
import { When } from "../design/time";
import { Refused } from "./archive";
import { type Verified, verify } from "./verify";

type Bytes = Uint8Array<ArrayBuffer>;

interface CheckedProps {
  bundle: Bytes;
  /** The statement that is looked for in it. */
  statement?: string | undefined;
}

/** Verifies once per bundle. */
export function Checked({ bundle, statement }: CheckedProps) {
  const key = useQuery({
    queryKey: ["evidence-key"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/evidence-key", { signal })),
  });
  const [typed, setTyped] = useState("");
  const trusted = typed.trim() || (key.data?.fingerprint ?? "");
  const [result, setResult] = useState<{ good?: Verified; wrong?: string }>();
  const lacks = statement !== undefined && result?.good !== undefined && !result.good.statements.has(statement);
  const check = async () => {
    try {
      setResult({ good: await verify(bundle, trusted) });
    } catch (error) {
      setResult({ wrong: error instanceof Refused ? `${error.file} ${error.problem}` : "The file cannot be read as a bundle." });
    }
  };
  return (
    <div className="stack">
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void check();
        }}
      >
        <TextField
          label="Fingerprint of the key that you trust"
          help="Filled in with what this server says. An auditor types what was agreed on by another way."
          placeholder={key.data?.fingerprint}
          value={typed}
          pattern="\s*[0-9a-fA-F]{64}\s*"
          onChange={(event) => {
            // What was said by another key is not said by this one.
            setResult(undefined);
            setTyped(event.target.value);
          }}
        />
        <div className="row">
          <Button kind="primary" type="submit" reason={trusted ? undefined : key.isError ? told(key.error).message : "The key is not known yet."}>
            Verify the bundle
          </Button>
        </div>
      </form>
      {result?.good && (
        <Notice kind={lacks ? "care" : "good"}>
          <div className="stack tight">
            {lacks && (
              <strong>This statement is not in the bundle, which proves how the control stands now. Its record in the log stays.</strong>
            )}
            <strong>The bundle is genuine: nothing in it was changed, added or removed.</strong>
            <Facts
              of={[
                ["Signed by", <code key="key">{result.good.fingerprint}</code>],
                ["Exported", <When key="at" at={result.good.created} />],
                ["Files", `${result.good.files}, each as it was signed`],
                ["Signatures", `${result.good.statements.size} statements, ${result.good.artifacts} artifacts`],
                ...(statement !== undefined && !lacks ? ([["This statement", "is in it"]] as [string, string][]) : []),
              ]}
            />
            <span className="muted small">
              Verified in this browser. <code>cairn evidence verify</code> also checks the proofs of the audit log.
            </span>
          </div>
        </Notice>
      )}
      {result?.wrong && (
        <div className="notice wrong" role="alert">
          <strong>Do not rely on this bundle.</strong> {result.wrong}.
        </div>
      )}
    </div>
  );
}
