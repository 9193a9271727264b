// Adding an authenticator app: also what stands before the console where a second factor is required.
import { useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { TextField } from "../../design/field";
import { Copyable } from "../../design/secret";
import { useRefreshMe } from "../../session/me";
import { useSignOut } from "../../session/out";
import { useWithProof } from "../../session/proof";
import { Gate } from "./gate";

export function ForcedFactor() {
  const refresh = useRefreshMe();
  return (
    <Gate title="Add a second factor">
      <p className="muted">It is required here. You need an authenticator app.</p>
      <AddApp onDone={() => void refresh()} />
      <Button kind="quiet" small onClick={useSignOut()}>
        Sign out
      </Button>
    </Gate>
  );
}

export function AddApp({ onDone }: { onDone: () => void }) {
  const withProof = useWithProof();
  const [made, setMade] = useState<Schemas["TotpCreated"]>();
  const [code, setCode] = useState("");
  const [codes, setCodes] = useState<string[]>();
  const [wrong, setWrong] = useState<string>();
  const attempt = async (work: () => Promise<void>) => {
    setWrong(undefined);
    try {
      await work();
    } catch (problem) {
      setWrong(told(problem).message);
    }
  };
  const begin = () =>
    attempt(async () =>
      setMade(await withProof(() => take(api.POST("/api/v1/me/factors/totp", { body: { name: "authenticator app" } })))),
    );
  const confirm = (factor: string) =>
    attempt(async () => {
      const path = { factor };
      const body = { code: code.trim() };
      const answer = await withProof(() => take(api.POST("/api/v1/me/factors/{factor}/confirm", { params: { path }, body })));
      if (answer.recovery_codes.length > 0) setCodes(answer.recovery_codes);
      else onDone();
    });
  if (codes) return <RecoveryCodes codes={codes} onDone={onDone} />;
  if (!made) {
    return (
      <>
        {wrong && <p role="alert">{wrong}</p>}
        <Button kind="primary" onClick={() => void begin()}>
          Add an authenticator app
        </Button>
      </>
    );
  }
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        void confirm(made.id);
      }}
    >
      <p>
        Type this key into the app, or <a href={made.otpauth_uri}>open it there</a>. Then type the code that the app shows.
      </p>
      <Copyable name="Key for the app" text={made.secret.match(/.{1,4}/g)?.join(" ") ?? made.secret} />
      <TextField
        label="Code of the app"
        inputMode="numeric"
        autoComplete="one-time-code"
        required
        value={code}
        wrong={wrong}
        onChange={(event) => setCode(event.target.value)}
      />
      <Button kind="primary" type="submit">
        Confirm
      </Button>
    </form>
  );
}

export function RecoveryCodes({ codes, onDone }: { codes: string[]; onDone: () => void }) {
  return (
    <div className="stack">
      <p>
        <strong>Keep these recovery codes.</strong> Each is good once, when you have no other factor at hand. They are not shown
        again.
      </p>
      <Copyable name="Recovery codes" text={codes.join("\n")} />
      <Button kind="primary" onClick={onDone}>
        I have kept them
      </Button>
    </div>
  );
}
