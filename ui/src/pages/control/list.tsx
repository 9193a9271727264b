// How the controls of the frameworks stand.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilter } from "../../list/keyset";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Bundle } from "../evidence/bundle";
import { useJudging } from "./judge";

type Control = Schemas["Control"];

const RESULTS = ["pass", "partial", "fail", "not_assessed"];

export default function ControlsPage() {
  useTitle("Controls");
  const tenant = useTenant();
  const { slug } = tenant;
  const [framework, setFramework] = useFilter("framework");
  const [result, setResult] = useFilter("result");
  const judging = useJudging();
  const [proving, setProving] = useState<Control>();
  const rules = useQuery({
    queryKey: ["rules"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/rules", { signal })),
  });
  const frameworks = [...new Set((rules.data?.items ?? []).flatMap((rule) => rule.controls.map((it) => it.split(":")[0] ?? "")))].sort();
  const filters = Object.fromEntries(Object.entries({ framework, result }).filter(([, value]) => value));
  const columns: Column<Control>[] = [
    {
      head: "Control",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.control(slug, `${it.framework}:${it.control}`)}>
            <strong>{it.control}</strong> {it.title}
          </Link>
          <div className="under">{it.framework}</div>
        </>
      ),
    },
    { head: "Result", cell: (it) => <Badge word={it.result === "not_assessed" ? "not assessed" : it.result} /> },
    { head: "Passed", kind: "number", cell: (it) => it.passed },
    { head: "Failed", kind: "number", cell: (it) => it.failed },
    { head: "Errors", kind: "number", cell: (it) => it.errors },
    { head: "Judged", kind: "nowrap", cell: (it) => <When at={it.evaluated_at} /> },
    {
      head: "",
      cell: (it) => (
        <Button
          small
          aria-label={`Evidence of ${it.control}`}
          reason={tenant.lacks("evidence:read") ?? (it.evidence ? undefined : "It was not judged yet.")}
          onClick={() => setProving(it)}
        >
          Evidence
        </Button>
      ),
    },
  ];
  return (
    <>
      <Head title="Controls" about="What each framework asks, judged by the rules that support it. A control that no rule supports is not assessed.">
        {judging.button}
      </Head>
      {judging.outcome}
      <div className="filters">
        <Select label="Framework" wide value={framework} onChange={(event) => setFramework(event.target.value)}>
          <option value="">All</option>
          {framework && !frameworks.includes(framework) && <option>{framework}</option>}
          {frameworks.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <Select label="Result" value={result} onChange={(event) => setResult(event.target.value)}>
          <option value="">All</option>
          {RESULTS.map((it) => (
            <option key={it} value={it}>
              {it.replace("_", " ")}
            </option>
          ))}
        </Select>
      </div>
      <section className="panel">
        <Listing
          name="Controls"
          queryKey={["tenant", slug, "controls", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/controls", { params: { path: { tenant: slug }, query: { ...filters, ...page } }, signal }))
          }
          columns={columns}
          rowKey={(it) => `${it.framework} ${it.control}`}
          exported={({ framework, control, title, result, passed, failed, errors, evaluated_at }) => ({
            framework,
            control,
            title,
            result,
            passed,
            failed,
            errors,
            evaluated_at,
          })}
          empty={
            <Empty title="No controls here" action={<Link to={to.controls(slug)}>All controls</Link>}>
              Choose another framework or result; controls come with the rule packs.
            </Empty>
          }
        />
      </section>
      {proving && (
        <Dialog title={`Evidence of ${proving.framework} ${proving.control}`} onClose={() => setProving(undefined)}>
          <Bundle
            about={{ framework: proving.framework, control: proving.control }}
            name={`${proving.framework}-${proving.control}.zip`}
          />
          <div className="actions">
            <Button onClick={() => setProving(undefined)}>Close</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}
