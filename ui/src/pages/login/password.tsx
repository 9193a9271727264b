// The first sign-in: a one-time password becomes one's own before anything else can be done.
import { useState } from "react";
import { api, Problem, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { TextField } from "../../design/field";
import { useRefreshMe } from "../../session/me";
import { useSignOut } from "../../session/out";
import { Gate } from "./gate";

export function ForcedPassword() {
  const refresh = useRefreshMe();
  return (
    <Gate title="Choose your password">
      <p className="muted">The one that you signed in with was good for this one time.</p>
      <PasswordForm onDone={() => void refresh()} />
      <Button kind="quiet" small onClick={useSignOut()}>
        Sign out
      </Button>
    </Gate>
  );
}

export function PasswordForm({ onDone }: { onDone: () => void }) {
  const [before, setBefore] = useState("");
  const [after, setAfter] = useState("");
  const [again, setAgain] = useState("");
  const [wrong, setWrong] = useState<{ field?: string | null; message: string }>();
  const [busy, setBusy] = useState(false);
  const change = async () => {
    if (after !== again) {
      setWrong({ field: "again", message: "This is not the same as above." });
      return;
    }
    setBusy(true);
    setWrong(undefined);
    try {
      await take(api.POST("/api/v1/me/password", { body: { old: before, new: after } }));
      onDone();
    } catch (problem) {
      setWrong({ field: problem instanceof Problem ? (problem.field ?? "old") : "old", message: told(problem).message });
    }
    setBusy(false);
  };
  const at = (field: string) => (wrong?.field === field ? wrong.message : undefined);
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy) void change();
      }}
    >
      <TextField
        label="Password so far"
        type="password"
        autoComplete="current-password"
        required
        value={before}
        wrong={at("old")}
        onChange={(event) => setBefore(event.target.value)}
      />
      <TextField
        label="New password"
        type="password"
        autoComplete="new-password"
        required
        value={after}
        wrong={at("new")}
        onChange={(event) => setAfter(event.target.value)}
      />
      <TextField
        label="New password, again"
        type="password"
        autoComplete="new-password"
        required
        value={again}
        wrong={at("again")}
        onChange={(event) => setAgain(event.target.value)}
      />
      <Button kind="primary" type="submit" busy={busy}>
        Change the password
      </Button>
    </form>
  );
}
