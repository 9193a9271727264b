// Says in time that the session is about to end, and asks at its end, so that what is shown goes then.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { Button } from "../design/button";
import { clock } from "../design/time";
import { ME, type Me } from "./me";
import { serverNow, usedSince } from "./use";

/** How long before. A session that ends when it is unused for a few minutes says it in the second half of these. */
const BEFORE_MS = 5 * 60_000;
const ASK_MS = 20_000;

/** When it ends next, and whether using it helps. */
function endOf(me: Me): { at: number; before: number; idle: boolean } | undefined {
  const end = me.expires_at ? Date.parse(me.expires_at) : Number.POSITIVE_INFINITY;
  const idle = me.idle_ends_at ? Date.parse(me.idle_ends_at) : Number.POSITIVE_INFINITY;
  const at = Math.min(end, idle);
  if (at === Number.POSITIVE_INFINITY) return undefined;
  return { at, before: idle < end ? Math.min(BEFORE_MS, (me.idle_ms ?? BEFORE_MS) / 2) : BEFORE_MS, idle: idle < end };
}

export function SessionEnds({ me }: { me: Me }) {
  const client = useQueryClient();
  const end = endOf(me);
  // A question that is open stands above everything else, and nothing outside of it can be pressed.
  const [above, setAbove] = useState<Element | null>(null);
  const [near, setNear] = useState(false);
  const asked = useRef(0);
  const at = end?.at;
  const before = end?.before ?? 0;
  useEffect(() => {
    if (at === undefined) return;
    const ask = () => {
      asked.current = Date.now();
      void client.invalidateQueries({ queryKey: ME });
    };
    const look = () => {
      const left = at - serverNow();
      setNear(left < before);
      setAbove([...document.querySelectorAll("dialog:modal")].at(-1) ?? null);
      // Perhaps it was used in another tab. Whatever is done here while this is shown is told at once.
      if (left < before && Date.now() - asked.current > (usedSince() === undefined && left > 0 ? ASK_MS : 2_000)) ask();
    };
    look();
    const timer = setInterval(look, 1_000);
    return () => clearInterval(timer);
  }, [client, at, before]);
  if (!end || !near) return null;
  const time = clock(new Date(end.at - serverNow() + Date.now()));
  const notice = (
    <div className="ends notice care" role="status">
      {end.idle ? (
        <div className="row apart">
          <span>You are signed out at {time} unless you go on here.</span>
          {/* To press it is to use the session. */}
          <Button small onClick={() => void client.invalidateQueries({ queryKey: ME })}>
            Stay signed in
          </Button>
        </div>
      ) : (
        <>
          Your session ends at {time}, however much you use it. You can then sign in again, and a form that is open goes on as it was.
        </>
      )}
    </div>
  );
  return above?.isConnected ? createPortal(notice, above) : notice;
}
