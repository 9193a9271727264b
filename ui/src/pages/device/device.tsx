// Letting a command line act as oneself: what asks, and from where, is shown before anything is given.
import { useState } from "react";
import { api, Problem, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { TextField } from "../../design/field";
import { Notice } from "../../design/state";
import { When } from "../../design/time";
import { useMe } from "../../session/me";
import { useWithProof } from "../../session/proof";
import { Gate } from "../login/gate";

type Login = Schemas["DeviceLogin"];

export default function DevicePage() {
  const me = useMe();
  const withProof = useWithProof();
  const [code, setCode] = useState("");
  const [waiting, setWaiting] = useState<Login>();
  const [done, setDone] = useState<string>();
  const [wrong, setWrong] = useState<string>();
  const find = async () => {
    setWrong(undefined);
    try {
      setWaiting(await take(api.POST("/api/v1/me/device-logins", { body: { user_code: code } })));
    } catch (error) {
      const unknown = error instanceof Problem && error.status === 404;
      setWrong(unknown ? "No command line waits with this code. Codes are good for ten minutes." : told(error).message);
    }
  };
  const decide = async ({ id }: Login, approve: boolean) => {
    const params = { path: { device_login: id } };
    setWrong(undefined);
    try {
      if (approve) await withProof(() => take(api.POST("/api/v1/me/device-logins/{device_login}/approve", { params })));
      else await take(api.POST("/api/v1/me/device-logins/{device_login}/deny", { params }));
      setDone(approve ? "Approved. Go back to the command line; this page can be closed." : "Denied. The command line gets nothing.");
    } catch (error) {
      const gone = error instanceof Problem && error.status === 404;
      setWrong(gone ? "This sign-in does not wait any more. Begin again on the command line." : told(error).message);
    }
  };
  return (
    <Gate title="Sign in on a device">
      {wrong && (
        <div className="notice wrong" role="alert">
          {wrong}
        </div>
      )}
      {done ? (
        <Notice kind="good">{done}</Notice>
      ) : waiting ? (
        <>
          <p>
            This command line asks to act as <strong>{me.email}</strong>:
          </p>
          <Facts
            of={[
              ["It calls itself", waiting.client],
              ["Address", waiting.ip ?? "unknown"],
              ["Asked", <When key="at" at={waiting.created_at} />],
            ]}
          />
          <p className="muted">
            Approve only if you started this yourself, a moment ago. Whoever sent you a code to type here would get your access.
          </p>
          <Button kind="primary" onClick={() => void decide(waiting, true)}>
            Approve
          </Button>
          <Button onClick={() => void decide(waiting, false)}>Deny</Button>
        </>
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void find();
          }}
        >
          <p className="muted">You are signed in as {me.email}. Nothing is approved yet.</p>
          <TextField
            label="Code that the command line shows"
            autoComplete="off"
            autoCapitalize="characters"
            autoFocus
            required
            maxLength={32}
            value={code}
            onChange={(event) => setCode(event.target.value)}
          />
          <Button kind="primary" type="submit">
            Continue
          </Button>
        </form>
      )}
    </Gate>
  );
}
