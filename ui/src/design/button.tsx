// What is clicked. An action that cannot be done is still there, can be reached by the keyboard, and says why: to the pointer that rests on it, to
// the keyboard that reaches it, and to whoever presses it.
import { type ButtonHTMLAttributes, createContext, type ReactNode, useContext, useEffect, useId, useState } from "react";

/** How long the reason stays for who pressed what cannot be done, in milliseconds. */
const TOLD_MS = 8_000;

/** Whether the form around is being sent. */
export const Sending = createContext(false);

type Kind = "plain" | "primary" | "danger" | "quiet";

export interface ButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "disabled"> {
  kind?: Kind;
  small?: boolean;
  /** Why it cannot be done now. */
  reason?: string | undefined;
  /** It is being done. */
  busy?: boolean;
  children: ReactNode;
}

export function Button({ kind = "plain", small, reason, busy: doing, children, onClick, onBlur, type = "button", ...rest }: ButtonProps) {
  const id = useId();
  const sending = useContext(Sending);
  const busy = doing || (sending && type === "submit");
  const off = reason !== undefined || busy;
  const [told, setTold] = useState(false);
  useEffect(() => {
    if (!told) return;
    const timer = setTimeout(() => setTold(false), TOLD_MS);
    return () => clearTimeout(timer);
  }, [told]);
  return (
    <>
      <button
        {...rest}
        type={type}
        className={`button ${kind}${small ? " small" : ""}${told ? " told" : ""}`}
        aria-disabled={off}
        aria-busy={busy}
        aria-describedby={reason ? id : undefined}
        title={reason}
        onClick={(event) => {
          if (!off) return onClick?.(event);
          event.preventDefault();
          if (reason !== undefined) setTold(true);
        }}
        onBlur={(event) => {
          setTold(false);
          onBlur?.(event);
        }}
      >
        {children}
      </button>
      {reason && (
        <span id={id} className="reason">
          {reason}
        </span>
      )}
    </>
  );
}
