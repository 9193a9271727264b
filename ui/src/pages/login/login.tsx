// Signing in: a password and a second factor, a passkey alone, or an identity provider.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { api, Problem, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { TextField } from "../../design/field";
import { Notice } from "../../design/state";
import { localPage, to } from "../../paths";
import { answerPasskey, hasPasskeys } from "../../session/passkey";
import { Gate } from "./gate";

const PROVIDER_ERRORS: Record<string, string> = {
  refused: "The identity provider’s answer was not accepted. Ask an administrator: the audit log says why.",
  expired: "That sign-in took too long, or was begun in another browser. Begin again.",
  unavailable: "The identity provider does not answer. Try again in a moment.",
};

export default function LoginPage() {
  const [search] = useSearchParams();
  const asked = search.get("second_step");
  const [methods, setMethods] = useState<string[] | null>(asked === null ? null : asked.split(","));
  const next = localPage(search.get("next"));
  const client = useQueryClient();
  const navigate = useNavigate();
  const done = () => {
    // What was shown to whoever was signed in before.
    client.clear();
    void navigate(next, { replace: true });
  };
  if (methods) return <SecondStep methods={methods} onDone={done} onBack={() => setMethods(null)} />;
  const why = search.has("ended") ? "Your session ended. Sign in, and you are back where you were." : undefined;
  return <FirstStep next={next} error={search.get("error")} why={why} onSecondStep={setMethods} onDone={done} />;
}

interface FirstStepProps {
  next: string;
  error: string | null;
  /** Somebody was signed in until now. */
  why?: ReactNode;
  /** Who that was, where the page waits for them. */
  was?: string | undefined;
  byPassword?: boolean;
  /** Another page that is open waits for the sign-in: a provider’s must not take its place. */
  stays?: boolean;
  onSecondStep: (methods: string[]) => void;
  onDone: () => void;
}

export function FirstStep({ next, error, why, was, byPassword: asksPassword = true, stays, onSecondStep, onDone }: FirstStepProps) {
  const [email, setEmail] = useState(was ?? "");
  const [password, setPassword] = useState("");
  const [wrong, setWrong] = useState(error ? (PROVIDER_ERRORS[error] ?? "The sign-in did not work.") : undefined);
  const [busy, setBusy] = useState(false);
  const providers = useQuery({
    queryKey: ["login"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/login", { signal })),
    retry: false,
  });
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setWrong(undefined);
    try {
      await work();
    } catch (problem) {
      const refused = problem instanceof Problem && problem.status === 401;
      setWrong(refused ? "The login name or the password is wrong." : told(problem).message);
    }
    setBusy(false);
  };
  const byPassword = () =>
    attempt(async () => {
      const answer = await take(api.POST("/api/v1/sessions", { body: { email, password, cookie: true } }));
      if ("methods" in answer) onSecondStep(answer.methods);
      else onDone();
    });
  const byPasskey = () =>
    attempt(async () => {
      const challenge = await take(api.POST("/api/v1/sessions/passkey-challenge", { body: {} }));
      await take(api.POST("/api/v1/sessions/passkey", { body: { ...(await answerPasskey(challenge)), cookie: true } }));
      onDone();
    });
  const others = providers.data?.items ?? [];
  return (
    <Gate title="Sign in">
      {wrong ? (
        <div className="notice wrong" role="alert">
          {wrong}
        </div>
      ) : (
        why && <Notice kind="care">{why}</Notice>
      )}
      {asksPassword && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (!busy) void byPassword();
          }}
        >
          <TextField
            label="Login name"
            type="email"
            autoComplete="username webauthn"
            autoFocus={was === undefined}
            required
            value={email}
            onChange={(event) => setEmail(event.target.value)}
          />
          <TextField
            label="Password"
            type="password"
            autoComplete="current-password"
            autoFocus={was !== undefined}
            required
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
          <Button kind="primary" type="submit" busy={busy}>
            Sign in
          </Button>
        </form>
      )}
      {asksPassword && (others.length > 0 || hasPasskeys()) && <div className="or">or</div>}
      {others.map((provider) => (
        <a key={provider.name} className="button" href={to.provider(provider.name, next)} {...(stays ? { target: "_blank", rel: "noopener" } : {})}>
          Sign in with {provider.title}
          {stays && " in a new tab"}
        </a>
      ))}
      {hasPasskeys() && (
        <Button busy={busy} onClick={() => void byPasskey()}>
          Sign in with a passkey
        </Button>
      )}
    </Gate>
  );
}

interface SecondStepProps {
  methods: string[];
  onDone: () => void;
  onBack: () => void;
}

export function SecondStep({ methods, onDone, onBack }: SecondStepProps) {
  const [recovery, setRecovery] = useState(!methods.includes("totp"));
  const [code, setCode] = useState("");
  const [wrong, setWrong] = useState<string>();
  const [busy, setBusy] = useState(false);
  const attempt = async (proof: () => Promise<object>) => {
    setBusy(true);
    setWrong(undefined);
    try {
      await take(api.POST("/api/v1/sessions/second-step", { body: { ...(await proof()), cookie: true } }));
      onDone();
    } catch (problem) {
      const refused = problem instanceof Problem && problem.status === 401;
      setWrong(refused ? "The code is wrong, was used already, or the sign-in took too long." : told(problem).message);
    }
    setBusy(false);
  };
  const byPasskey = () =>
    attempt(async () => {
      const challenge = await take(api.POST("/api/v1/sessions/passkey-challenge", { body: { cookie: true } }));
      return { passkey: await answerPasskey(challenge) };
    });
  const hasCodes = methods.includes("totp") || methods.includes("recovery-code");
  return (
    <Gate title="Second factor">
      <p className="muted">The first step was right. Now show your second factor.</p>
      {hasCodes && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (!busy) void attempt(async () => (recovery ? { recovery_code: code.trim() } : { code: code.trim() }));
          }}
        >
          <TextField
            label={recovery ? "Recovery code" : "Code of your authenticator app"}
            autoComplete="one-time-code"
            inputMode={recovery ? "text" : "numeric"}
            autoFocus
            required
            value={code}
            wrong={wrong}
            onChange={(event) => setCode(event.target.value)}
          />
          <Button kind="primary" type="submit" busy={busy}>
            Continue
          </Button>
        </form>
      )}
      {!hasCodes && wrong && (
        <div className="notice wrong" role="alert">
          {wrong}
        </div>
      )}
      {methods.includes("passkey") && hasPasskeys() && (
        <Button busy={busy} onClick={() => void byPasskey()}>
          Use a passkey
        </Button>
      )}
      <div className="row apart">
        {methods.includes("totp") && methods.includes("recovery-code") && (
          <Button kind="quiet" small onClick={() => setRecovery(!recovery)}>
            {recovery ? "Use the authenticator app" : "Use a recovery code"}
          </Button>
        )}
        <Button kind="quiet" small onClick={onBack}>
          Begin again
        </Button>
      </div>
    </Gate>
  );
}
