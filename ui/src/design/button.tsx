// What is clicked. An action that cannot be done is still there, says why, and can be reached by the keyboard.
import { type ButtonHTMLAttributes, createContext, type ReactNode, useContext, useId } from "react";

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

export function Button({ kind = "plain", small, reason, busy: doing, children, onClick, type = "button", ...rest }: ButtonProps) {
  const id = useId();
  const sending = useContext(Sending);
  const busy = doing || (sending && type === "submit");
  const off = reason !== undefined || busy;
  return (
    <>
      <button
        {...rest}
        type={type}
        className={`button ${kind}${small ? " small" : ""}`}
        aria-disabled={off}
        aria-busy={busy}
        aria-describedby={reason ? id : undefined}
        title={reason}
        onClick={(event) => {
          if (off) event.preventDefault();
          else onClick?.(event);
        }}
      >
        {children}
      </button>
      {reason && (
        <span id={id} className="only-read-aloud">
          {reason}
        </span>
      )}
    </>
  );
}
