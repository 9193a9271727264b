// Some changes need a fresh proof of who one is: the API says so, this asks, and the change is tried again.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useCallback, useContext, useState } from "react";
import { api, Problem, type Schemas, take, told } from "../api/client";
import { answerPasskey } from "./passkey";
import { Button } from "../design/button";
import { Dialog } from "../design/dialog";
import { TextField } from "../design/field";
import { signInAgain } from "./lock";
import { useMe } from "./me";

type WithProof = <T>(change: () => Promise<T>) => Promise<T>;
interface Asked {
  proved: () => void;
  given: (error: Error) => void;
}

const ProofContext = createContext<WithProof | null>(null);

/** Does a change; asks for a proof where the API wants one. */
export function useWithProof(): WithProof {
  const withProof = useContext(ProofContext);
  if (!withProof) throw new Error("used outside of a session");
  return withProof;
}

export function ProofProvider({ children }: { children: ReactNode }) {
  const [asked, setAsked] = useState<Asked | null>(null);
  const withProof = useCallback<WithProof>(async (change) => {
    try {
      return await change();
    } catch (error) {
      if (!(error instanceof Problem && error.code === "step_up_required")) throw error;
      await new Promise<void>((proved, given) => setAsked({ proved, given }));
      return await change();
    }
  }, []);
  return (
    <ProofContext.Provider value={withProof}>
      {children}
      {asked && (
        <ProofDialog
          onProved={() => {
            setAsked(null);
            asked.proved();
          }}
          onClose={() => {
            setAsked(null);
            asked.given(new Problem(0, "given_up", "nothing was changed: it needs a proof of who you are"));
          }}
        />
      )}
    </ProofContext.Provider>
  );
}

function ProofDialog({ onProved, onClose }: { onProved: () => void; onClose: () => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const factors = useQuery({
    queryKey: ["factors"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/me/factors", { signal })),
    enabled: me.has_second_factor === true,
  });
  const [typed, setTyped] = useState("");
  const [wrong, setWrong] = useState<string>();
  const has = (kind: string) => factors.data?.items.some((factor) => factor.kind === kind && factor.confirmed_at) === true;
  const prove = async (proof: Schemas["StepUp"]) => {
    try {
      await take(api.POST("/api/v1/sessions/current/step-up", { body: proof }));
      onProved();
    } catch (error) {
      setWrong(told(error).message);
    }
  };
  const byText = () => {
    if (!me.has_second_factor) return prove({ password: typed });
    return prove(/^\d{6}$/.test(typed.trim()) ? { code: typed.trim() } : { recovery_code: typed.trim() });
  };
  // Who comes by a provider only has nothing to show here but that they come by it again.
  const signIn = !me.has_second_factor && !me.has_password;
  const byPasskey = async () => {
    try {
      const challenge = await take(api.POST("/api/v1/sessions/current/passkey-challenge"));
      await prove({ passkey: await answerPasskey(challenge) });
    } catch (error) {
      setWrong(told(error).message);
    }
  };
  const again = async () => {
    if (await signInAgain(queries, me)) onProved();
    else onClose();
  };
  if (signIn) {
    return (
      <Dialog title="Confirm that it is you" onClose={onClose} onSubmit={() => void again()}>
        <p>
          This change needs a fresh proof of who you are. You have no password here and no second factor: sign in with your identity provider once more.
          What is open waits for you.
        </p>
        <div className="actions">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit">
            Sign in again
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Confirm that it is you" onClose={onClose} onSubmit={() => byText()}>
      <p className="muted">This change needs a fresh proof. It then counts for some minutes.</p>
      {me.has_second_factor ? (
        <TextField
          label="Code of your authenticator app, or a recovery code"
          autoComplete="one-time-code"
          required
          value={typed}
          wrong={wrong}
          onChange={(event) => setTyped(event.target.value)}
        />
      ) : (
        <TextField
          label="Your password"
          type="password"
          autoComplete="current-password"
          required
          value={typed}
          wrong={wrong}
          onChange={(event) => setTyped(event.target.value)}
        />
      )}
      <div className="actions">
        {has("passkey") && <Button onClick={() => void byPasskey()}>Use a passkey</Button>}
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Confirm
        </Button>
      </div>
    </Dialog>
  );
}
