// The frame of the pages before the console.
import type { ReactNode } from "react";
import mark from "../../cairn.svg";
import { useTitle } from "../../shell/title";

export function Gate({ title, children }: { title: string; children: ReactNode }) {
  useTitle(title);
  return (
    <div className="gate">
      <main>
        <div className="brand">
          <img src={mark} alt="" width={28} height={28} />
          Cairn
        </div>
        <div className="card stack">
          <h1>{title}</h1>
          {children}
        </div>
      </main>
    </div>
  );
}
