// Verifying a bundle from a file, which never leaves the browser.
import { useRef, useState } from "react";
import { Head, Panel } from "../../design/panel";
import { TextField } from "../../design/field";
import { Failed } from "../../design/state";
import { Checked } from "../../evidence/check";
import { useTitle } from "../../shell/title";

interface Chosen {
  turn: number;
  name: string;
  at: Date;
  /** None where the file cannot be read. */
  bytes?: Uint8Array<ArrayBuffer>;
}

export default function VerifyPage() {
  useTitle("Verify a bundle");
  const [chosen, setChosen] = useState<Chosen>();
  const turns = useRef(0);
  const read = async (file: File | undefined) => {
    turns.current += 1;
    const turn = turns.current;
    // What was said of the file before is not said of this one, which may have its name and size.
    setChosen(undefined);
    if (!file) return;
    const of = { turn, name: file.name, at: new Date() };
    let next: Chosen = of;
    try {
      next = { ...of, bytes: new Uint8Array(await file.arrayBuffer()) };
    } catch {
      // It is gone, or was written since it was chosen.
    }
    // One that was chosen meanwhile counts.
    if (turn === turns.current) setChosen(next);
  };
  return (
    <>
      <Head title="Verify a bundle" about="The file stays in this browser: nothing of it is sent anywhere." />
      <Panel title="Bundle">
        <div className="stack">
          <TextField
            label="Evidence bundle"
            type="file"
            accept=".zip"
            // A browser says nothing of the file that is chosen already, which may have been written anew.
            onClick={(event) => (event.currentTarget.value = "")}
            onChange={(event) => void read(event.target.files?.[0])}
          />
          {chosen && (
            <p className="small muted">
              {chosen.bytes ? `${chosen.name}: ${chosen.bytes.length.toLocaleString("en")} bytes, as they were at` : `${chosen.name}, chosen at`}{" "}
              <time dateTime={chosen.at.toISOString()}>{chosen.at.toLocaleTimeString("en-GB")}</time>
            </p>
          )}
          {chosen && !chosen.bytes && <Failed message="The file cannot be read: it is gone, or was changed since you chose it. Choose it again." />}
          {chosen?.bytes && <Checked key={chosen.turn} bundle={chosen.bytes} />}
        </div>
      </Panel>
    </>
  );
}
