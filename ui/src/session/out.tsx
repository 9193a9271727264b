// Signing out: whoever asks for it walks away, so what is shown goes at once, and a sign-out that fails says that it did.
import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useState } from "react";
import { told } from "../api/client";
import { Failed, Loading } from "../design/state";
import { Gate } from "../pages/login/gate";
import { to } from "../paths";
import { endSession, ME } from "./me";

const SignOutContext = createContext<() => void>(() => {});

export const useSignOut = () => useContext(SignOutContext);

export function SignOutProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [going, setGoing] = useState(false);
  const [failed, setFailed] = useState<unknown>();
  const signOut = async () => {
    setGoing(true);
    setFailed(undefined);
    client.removeQueries({ predicate: (query) => query.queryKey[0] !== ME[0] });
    try {
      await endSession();
    } catch (error) {
      setFailed(error);
    }
  };
  if (!going) return <SignOutContext.Provider value={() => void signOut()}>{children}</SignOutContext.Provider>;
  if (failed === undefined) {
    return (
      <Gate title="Signing out">
        <Loading rows={1} />
      </Gate>
    );
  }
  return (
    <Gate title="You are still signed in">
      <p>The server did not end your session: whoever uses this browser goes on as you. Try again, or close the browser.</p>
      <Failed {...told(failed)} onRetry={() => void signOut()} />
      <a className="button quiet small" href={to.start()}>
        Stay signed in
      </a>
    </Gate>
  );
}
