// How each framework stands: of what was assessed, how much passes.
import { useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

const MINUTE_MS = 60_000;

/** All controls of a framework, page by page: none has more than some hundreds. */
async function controlsOf(tenant: string, framework: string, signal: AbortSignal): Promise<Schemas["Control"][]> {
  const all: Schemas["Control"][] = [];
  let page: string | undefined;
  do {
    const query = { framework, limit: "500", ...(page ? { page } : {}) };
    const got = await take(api.GET("/api/v1/tenants/{tenant}/controls", { params: { path: { tenant }, query }, signal }));
    all.push(...got.items);
    page = got.next_page ?? undefined;
  } while (page);
  return all;
}

export function Posture() {
  const { slug } = useTenant();
  const rules = useQuery({
    queryKey: ["rules"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/rules", { signal })),
  });
  const named = (rules.data?.items ?? []).flatMap((rule) => rule.controls.map((it) => it.split(":")[0] ?? ""));
  const frameworks = [...new Set(named)].sort();
  const standing = useQueries({
    queries: frameworks.map((framework) => ({
      queryKey: ["tenant", slug, "controls", "posture", framework],
      queryFn: ({ signal }: { signal: AbortSignal }) => controlsOf(slug, framework, signal),
      refetchInterval: MINUTE_MS,
    })),
  });
  if (rules.isError) return <Failed {...told(rules.error)} onRetry={() => void rules.refetch()} />;
  if (rules.isPending || standing.some((it) => it.isPending)) return <Loading rows={3} />;
  const rows = frameworks.map((framework, at) => {
    const controls = standing[at]?.data ?? [];
    const count = (result: string) => controls.filter((it) => it.result === result).length;
    return { framework, all: controls.length, assessed: controls.length - count("not_assessed"), pass: count("pass"), fail: count("fail") };
  });
  return (
    <Panel title="Frameworks" flush action={<Link to={to.controls(slug)}>All controls</Link>}>
      {rows.length === 0 ? (
        <Empty title="No frameworks">They come with the rule packs.</Empty>
      ) : (
        <Table
          name="Frameworks"
          rows={rows}
          rowKey={(it) => it.framework}
          columns={[
            { head: "Framework", cell: (it) => <Link to={to.controls(slug, { framework: it.framework })}>{it.framework}</Link> },
            {
              head: "Controls that pass",
              cell: (it) => (
                <>
                  <progress value={it.pass} max={Math.max(it.assessed, 1)} aria-label={`${it.framework}: controls that pass`} />
                  <span className="small muted">
                    {it.pass} of {it.assessed} assessed
                  </span>
                </>
              ),
            },
            {
              head: "Fail",
              kind: "number",
              cell: (it) => <Link to={to.controls(slug, { framework: it.framework, result: "fail" })}>{it.fail}</Link>,
            },
            { head: "Not assessed", kind: "number", cell: (it) => it.all - it.assessed },
          ]}
        />
      )}
    </Panel>
  );
}
