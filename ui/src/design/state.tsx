// What stands where data will be, where there is none, and where it could not be had.
import type { ReactNode } from "react";
import { headingIsThere } from "./arrival";
import { Button } from "./button";

export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <div className="ghosts" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, at) => (
        <div key={at} className="ghost" />
      ))}
    </div>
  );
}

interface EmptyProps {
  title: string;
  /** It is all that the page has. */
  page?: boolean;
  children?: ReactNode;
  action?: ReactNode;
}

export function Empty({ title, page, children, action }: EmptyProps) {
  return (
    <div className="empty">
      {page ? (
        <h1 ref={headingIsThere} tabIndex={-1}>
          {title}
        </h1>
      ) : (
        <h2>{title}</h2>
      )}
      <p>{children}</p>
      {action}
    </div>
  );
}

interface FailedProps {
  message: string;
  requestId?: string | undefined;
  onRetry?: (() => void) | undefined;
}

export function Failed({ message, requestId, onRetry }: FailedProps) {
  return (
    <div className="notice wrong" role="alert">
      <div className="row apart">
        <div>
          <strong>{message}</strong>
          {requestId && (
            <div className="small muted">
              Request <code>{requestId}</code>: look for it in the server’s log.
            </div>
          )}
        </div>
        {onRetry && (
          <Button small onClick={onRetry}>
            Try again
          </Button>
        )}
      </div>
    </div>
  );
}

export function Notice({ kind = "", children }: { kind?: "" | "good" | "care" | "wrong"; children: ReactNode }) {
  return (
    <div className={`notice ${kind}`} role="status">
      {children}
    </div>
  );
}
