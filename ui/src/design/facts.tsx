// Names and values of one thing.
import { Fragment, type ReactNode } from "react";

export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of.map(([name, value]) => (
        <Fragment key={name}>
          <dt>{name}</dt>
          <dd>{value ?? <span className="muted">none</span>}</dd>
        </Fragment>
      ))}
    </dl>
  );
}

/** A document of the API as text. */
export function Json({ name, value }: { name: string; value: unknown }) {
  return (
    <pre className="block" aria-label={name} tabIndex={0}>
      {JSON.stringify(value, null, 2)}
    </pre>
  );
}
