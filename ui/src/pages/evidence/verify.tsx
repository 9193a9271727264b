// Verifying a bundle from a file, which never leaves the browser.
import { useState } from "react";
import { Head, Panel } from "../../design/panel";
import { TextField } from "../../design/field";
import { Checked } from "../../evidence/check";
import { useTitle } from "../../shell/title";

export default function VerifyPage() {
  useTitle("Verify a bundle");
  const [chosen, setChosen] = useState<{ name: string; bytes: Uint8Array<ArrayBuffer> }>();
  const read = async (file: File | undefined) => {
    setChosen(file && { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) });
  };
  return (
    <>
      <Head title="Verify a bundle" about="The file stays in this browser: nothing of it is sent anywhere." />
      <Panel title="Bundle">
        <div className="stack">
          <TextField label="Evidence bundle" type="file" accept=".zip" onChange={(event) => void read(event.target.files?.[0])} />
          {chosen && <Checked key={`${chosen.name}-${chosen.bytes.length}`} bundle={chosen.bytes} />}
        </div>
      </Panel>
    </>
  );
}
