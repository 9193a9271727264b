// How the frameworks stand, for the pages that show it.
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";
import { useTenant } from "../../session/me";

const MINUTE_MS = 60_000;
/** How far back the history goes. */
export const DAYS = "30";

export function usePosture() {
  const { slug } = useTenant();
  return useQuery({
    queryKey: ["tenant", slug, "posture"],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/posture", { params: { path: { tenant: slug }, query: { days: DAYS } }, signal })),
    refetchInterval: MINUTE_MS,
  });
}

/** Of the controls that were judged the share that passes. */
export const share = (percent: number | null | undefined) => (percent === null || percent === undefined ? "not judged" : `${percent} %`);
