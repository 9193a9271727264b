// Verifying a bundle from a file, which never leaves the browser.
import { useRef, useState } from "react";
import { Head, Panel } from "../../design/panel";
import { TextField } from "../../design/field";
import { Checked } from "../../evidence/check";
import { useTitle } from "../../shell/title";

export default function VerifyPage() {
  useTitle("Verify a bundle");
  const [chosen, setChosen] = useState<{ turn: number; bytes: Uint8Array<ArrayBuffer> }>();
  const turns = useRef(0);
  const read = async (file: File | undefined) => {
    turns.current += 1;
    const turn = turns.current;
    // What was said of the file before is not said of this one, which may have its name and size.
    setChosen(undefined);
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    // One that was chosen meanwhile counts.
    if (turn === turns.current) setChosen({ turn, bytes });
  };
  return (
    <>
      <Head title="Verify a bundle" about="The file stays in this browser: nothing of it is sent anywhere." />
      <Panel title="Bundle">
        <div className="stack">
          <TextField label="Evidence bundle" type="file" accept=".zip" onChange={(event) => void read(event.target.files?.[0])} />
          {chosen && <Checked key={chosen.turn} bundle={chosen.bytes} />}
        </div>
      </Panel>
    </>
  );
}
