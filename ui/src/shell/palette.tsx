// Going anywhere by the keyboard: pages, and a node or a finding by what is typed.
import { useState } from "react";
import { useNavigate } from "react-router";
import { Dialog } from "../design/dialog";
import { TextField } from "../design/field";
import { to } from "../paths";
import { useMe, useTenantAtHand } from "../session/me";
import { PLATFORM, placesOf } from "./places";

interface Goal {
  name: string;
  kind: string;
  path: string;
}

export function Palette({ onClose }: { onClose: () => void }) {
  const tenant = useTenantAtHand();
  const { platform_admin, tenants } = useMe();
  const navigate = useNavigate();
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const wanted = typed.trim().toLowerCase();
  const places: Goal[] = tenant ? placesOf(tenant).map(({ name, path }) => ({ name, kind: "page", path: path(tenant.slug) })) : [];
  if (platform_admin) places.push(...PLATFORM.map(({ name, path }) => ({ name, kind: "installation", path: path(tenant?.slug) })));
  places.push({ name: "Your account", kind: "page", path: to.account(tenant?.slug) });
  if (!tenant) places.push(...tenants.map(({ name, slug }) => ({ name, kind: "tenant", path: to.home(slug) })));
  const goals = places.filter((place) => place.name.toLowerCase().includes(wanted));
  if (wanted && tenant?.can("findings:read")) {
    goals.push({ name: `Findings that say “${typed.trim()}”`, kind: "search", path: to.findings(tenant.slug, { text: typed.trim() }) });
  }
  if (wanted && tenant?.can("nodes:read")) {
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
          label={tenant ? "Page, node or finding" : "Page or tenant"}
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
