// A part of a page, with its name.
import { type ReactNode, useId } from "react";
import { headingIsThere } from "./arrival";

interface PanelProps {
  title: string;
  action?: ReactNode;
  /** Without the space around what is inside: for tables. */
  flush?: boolean;
  children: ReactNode;
}

export function Panel({ title, action, flush, children }: PanelProps) {
  const id = useId();
  return (
    <section className="panel" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {action}
      </header>
      {flush ? children : <div className="body">{children}</div>}
    </section>
  );
}

export function Head({ title, about, children }: { title: ReactNode; about?: ReactNode; children?: ReactNode }) {
  return (
    <div className="head">
      <div>
        <h1 ref={headingIsThere} tabIndex={-1}>
          {title}
        </h1>
        {about && <p>{about}</p>}
      </div>
      {children && <div className="row">{children}</div>}
    </div>
  );
}
