// A moment to look at the graph: one of those at which discovery changed something.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useId, useState } from "react";
import { api, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Failed, Loading } from "../../design/state";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import type { Shown } from "./state";

const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export function TimeBar({ shown, change }: { shown: Shown; change: (change: Partial<Shown>, quietly?: boolean) => void }) {
  const { slug } = useTenant();
  const [open, setOpen] = useState(Boolean(shown.asOf));
  const query = useQuery({
    queryKey: ["tenant", slug, "graph-moments"],
    enabled: open,
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/graph/moments", { params: { path: { tenant: slug }, query: { limit: "200" } }, signal })),
  });
  if (!open) {
    return (
      <div>
        <Button small kind="quiet" onClick={() => setOpen(true)}>
          Look into the past…
        </Button>
      </div>
    );
  }
  if (query.isPending) return <Loading rows={1} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const moments = query.data.items;
  const now = () => {
    change({ asOf: undefined });
    setOpen(false);
  };
  if (moments.length === 0) return <p className="muted small">Discovery has changed nothing yet: there is no past to look at.</p>;
  return <Slider moments={moments} shown={shown} change={change} onNow={now} />;
}

interface SliderProps {
  moments: { at: string; nodes_begun: number; nodes_ended: number; edges_begun: number; edges_ended: number }[];
  shown: Shown;
  change: (change: Partial<Shown>, quietly?: boolean) => void;
  onNow: () => void;
}

function Slider({ moments, shown, change, onNow }: SliderProps) {
  const id = useId();
  const last = moments.length;
  // The last moment that is not after the one that is shown.
  const chosen = shown.asOf ? Math.max(0, moments.filter((moment) => Date.parse(moment.at) <= Date.parse(shown.asOf ?? "")).length - 1) : last;
  const [place, setPlace] = useState(chosen);
  // It stays in the page while the graph of another moment comes, so that the next key moves it on.
  useEffect(() => setPlace(chosen), [chosen]);
  const moment = moments[place];
  const told = moment
    ? `${exact.format(new Date(moment.at))}: ${moment.nodes_begun} nodes new, ${moment.nodes_ended} gone, ${moment.edges_begun} edges new, ${moment.edges_ended} gone`
    : "now";
  const settle = () => {
    // Whoever only passes by changes nothing, also where the moment of the address is none of these.
    if (place === chosen) return;
    const asOf = moments[place]?.at;
    if (asOf !== shown.asOf) change({ asOf, at: undefined });
  };
  return (
    <div className="graph-time">
      <label htmlFor={id}>As of</label>
      <input
        id={id}
        type="range"
        min={0}
        max={last}
        step={1}
        value={place}
        aria-valuetext={told}
        onChange={(event) => setPlace(Number(event.target.value))}
        onPointerUp={settle}
        onKeyUp={settle}
        onBlur={settle}
      />
      <output htmlFor={id}>{told}</output>
      <Button small kind="quiet" onClick={onNow}>
        Back to now
      </Button>
    </div>
  );
}
