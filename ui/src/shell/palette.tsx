// Going anywhere by the keyboard: pages, and a node or a finding by what is typed.
import { useState } from "react";
import { useNavigate } from "react-router";
import { Dialog } from "../design/dialog";
import { TextField } from "../design/field";
import { to } from "../paths";
import { useTenantAtHand } from "../session/me";
import { placesOf } from "./places";

interface Goal {
  name: string;
  kind: string;
  path: string;
}

export function Palette({ onClose }: { onClose: () => void }) {
  const tenant = useTenantAtHand();
  const navigate = useNavigate();
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  if (!tenant) return null;
  const wanted = typed.trim().toLowerCase();
  const goals: Goal[] = placesOf(tenant)
    .filter((place) => place.name.toLowerCase().includes(wanted))
    .map((place) => ({ name: place.name, kind: "page", path: place.path(tenant.slug) }));
  if (wanted && tenant.can("findings:read")) {
    goals.push({ name: `Findings that say “${typed.trim()}”`, kind: "search", path: to.findings(tenant.slug, { text: typed.trim() }) });
  }
  if (wanted && tenant.can("nodes:read")) {
    goals.push({ name: `Nodes named “${typed.trim()}…”`, kind: "search", path: to.nodes(tenant.slug, { name: typed.trim() }) });
  }
  const go = (goal: Goal | undefined) => {
    if (!goal) return;
    onClose();
    void navigate(goal.path);
  };
  return (
    <Dialog title="Go to" onClose={onClose} onSubmit={() => go(goals[at])}>
      <div className="palette stack tight">
        <TextField
          label="Page, node or finding"
          role="combobox"
          aria-expanded="true"
          aria-controls="goals"
          aria-activedescendant={goals[at] ? `goal-${at}` : undefined}
          autoFocus
          autoComplete="off"
          value={typed}
          onChange={(event) => {
            setTyped(event.target.value);
            setAt(0);
          }}
          onKeyDown={(event) => {
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            if (!step) return;
            event.preventDefault();
            setAt((at + step + goals.length) % Math.max(goals.length, 1));
          }}
        />
        <ul id="goals" role="listbox" aria-label="Where to go">
          {goals.map((goal, index) => (
            <li key={goal.path} id={`goal-${index}`} role="option" aria-selected={index === at} onClick={() => go(goal)}>
              <span>{goal.name}</span>
              <span className="muted small">{goal.kind}</span>
            </li>
          ))}
        </ul>
      </div>
    </Dialog>
  );
}
